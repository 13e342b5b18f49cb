/**
 * What a volume is, after parsing: the one vocabulary shared by the doors, the engine, the session and the NFS client.
 * Owns the frozen, fully defaulted types. Does not know how they were spelled: `agent/volumes/spec.ts` parses and
 * refuses.
 */
import type { FileName } from './brands.ts'

/** nfs(5): what a call does when the server does not answer. `hard` waits for ever; `soft` gives EIO, `softerr`
 * ETIMEDOUT after `retrans`. */
export type Recovery = 'hard' | 'soft' | 'softerr'
export type LookupCache = 'all' | 'positive' | 'none'
/** `4` is the newest minor version that both sides speak. */
export type NfsVersion = '3' | '4' | '4.0' | '4.1' | '4.2'
/** A version that one mount of the kernel's client can ask for. */
export type KernelNfsVersion = Exclude<NfsVersion, '4'>

/** A server that the kernel's client has mounted, as /proc/self/mountinfo knows it. */
export interface MountedServer {
  readonly version: KernelNfsVersion
  readonly address: string
  readonly port: number | undefined
}
export type Consistency = 'standard' | 'solowriter'
export type ClientKind = 'fuse' | 'kernel'

/** nfs(5) options with units. `undefined` means "ask the server" or "as negotiated". */
export interface NfsOptions {
  readonly version: NfsVersion | undefined
  readonly port: number | undefined
  readonly mountPort: number | undefined
  readonly rsizeBytes: number | undefined
  readonly wsizeBytes: number | undefined
  readonly nconnect: number
  readonly recovery: Recovery
  /** nfs(5) `timeo`, in milliseconds (the option counts deciseconds). TCP default 60 s. */
  readonly timeoMs: number
  readonly retrans: number
  readonly acregminMs: number
  readonly acregmaxMs: number
  readonly acdirminMs: number
  readonly acdirmaxMs: number
  /** `noac`: no attribute is ever cached and writes are synchronous. */
  readonly noac: boolean
  readonly lookupCache: LookupCache
  /** `resvport`: try a source port below 1024 first. */
  readonly resvport: boolean
  /** `cto`: OPEN revalidates. `nocto` switches that off. */
  readonly cto: boolean
  /** nfs(5) `sec`; the own client speaks `sys` only. */
  readonly sec: string
  /** Where `fcntl` and `flock` locks are kept, if it was said. Kernel's client only. */
  readonly locks?: 'local' | 'remote' | undefined
  /** `softreval` of nfs(5). The own client does so unless told not to, the kernel's only when told. */
  readonly softReval?: boolean | undefined
  /** `noacl` of nfs(5). Kernel's client only: the own one never speaks ACLs. */
  readonly noAcl?: true | undefined
  /** `nordirplus` of nfs(5): folders are listed by name alone. */
  readonly nordirplus?: true | undefined
  /** Options for the kernel's client alone, as they were written. */
  readonly kernelWords?: readonly string[] | undefined
  /** How long the first mount attempt is repeated while the server is away (nfs(5) `retry`), in milliseconds; 0 is one
   * attempt. */
  readonly retryMs: number
}

/** The options that say how long what is known is believed: the file-system core has them as they are. */
export type CachingOptions = Pick<
  NfsOptions,
  'acregminMs' | 'acregmaxMs' | 'acdirminMs' | 'acdirmaxMs' | 'noac' | 'lookupCache' | 'cto'
>

/** nfs(5), said once. */
export const defaultCaching: CachingOptions = {
  acregminMs: 3_000, acregmaxMs: 60_000, acdirminMs: 30_000, acdirmaxMs: 60_000, noac: false, lookupCache: 'all',
  cto: true
}

/** Per-mount (VFS) flags. */
export interface MountFlags {
  readonly readOnly: boolean
  readonly nosuid: boolean
  readonly nodev: boolean
  readonly noexec: boolean
  readonly noatime: boolean
  readonly nodiratime: boolean
  readonly relatime: boolean
  readonly sync: boolean
  readonly dirsync: boolean
}

/** A user as the server sees it. */
export interface Identity { readonly uid: number, readonly gid: number }

/** Where an NFS file system is and how to speak to it. */
export interface NfsTarget {
  /** Addresses or names of one server, tried in order. IPv6 without brackets. */
  readonly servers: readonly string[]
  /** Exported path, absolute, as the server knows it. */
  readonly share: string
  /** Components below the share; never `.` or `..`. */
  readonly subDir: readonly FileName[]
  readonly options: NfsOptions
  /** The user that the server sees for every call; absent: whoever asks. Own client only. */
  readonly identity?: Identity | undefined
}

export interface NfsVolumeSpec {
  readonly type: 'nfs'
  readonly target: NfsTarget
  readonly client: ClientKind
  /** Why that client, for `status`. */
  readonly clientReason: string
  /** Options that were accepted and change nothing that can be seen, with why; for `status`. */
  readonly optionNotes?: readonly string[] | undefined
  readonly consistency: Consistency
  readonly flags: MountFlags
  /** Octal mode for the volume's root, or undefined to leave it alone. */
  readonly mountPermissions: number | undefined
  /** CSI volume_mount_group, or undefined. */
  readonly mountGroup: number | undefined
  /** The mount's binds may be idmapped, for pods in user namespaces. Own client only. */
  readonly idmap?: true | undefined
  /** When the objects below the root get that group as well; undefined: `root-mismatch`. */
  readonly fsGroupContents?: FsGroupContents | undefined
  /** What is held back because a pod's author may have written the attributes; undefined: nothing. */
  readonly restraint?: Restraint | undefined
}

/**
 * A pod's fsGroupChangePolicy, which CSI does not tell: `root-mismatch` (OnRootMismatch), when the root has not got the
 * group and its bits; `always`, for each pod; `never`, the root alone.
 */
export type FsGroupContents = typeof fsGroupContents[number]
export const fsGroupContents = ['always', 'root-mismatch', 'never'] as const
/** What a volume of a million files can bear, and all that Kubernetes' own suite asks of a new group. */
export const defaultFsGroupContents: FsGroupContents = 'root-mismatch'

/**
 * `no-changes`: the node itself changes nothing on the server (no mode, no group of the volume's root). `anonymous`:
 * that, and uid and gid 0 are nobody's in every call to the server, whoever makes it, as with a server that squashes
 * root (exports(5) root_squash).
 */
export type Restraint = 'no-changes' | 'anonymous'

/** A union on `type`; later other remote storage. */
export type VolumeSpec = NfsVolumeSpec

/** `server:/share/sub` for people. */
export function showSource (spec: VolumeSpec): string {
  const { servers, share, subDir } = spec.target
  const server = servers.map((name) => name.includes(':') ? `[${name}]` : name).join(',')
  const sub = subDir.map((name) => Buffer.from(name, 'latin1').toString('utf8')).join('/')
  return sub === '' ? `${server}:${share}` : `${server}:${share === '/' ? '' : share}/${sub}`
}
