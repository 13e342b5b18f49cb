/**
 * Which of the node's files and ports a session can name: nothing but what it needs to start, to serve, and to find its
 * server again. Held by Landlock in all of its threads, from before its first instruction (`native/landlock.c`).
 *
 * Owns the rules and their reasons. Does not know where the program lies or what its server is: it is told.
 *
 * A rule holds what is there now, not a name: a file that is replaced by renaming is lost with it. That is why whole
 * folders are given where a node's own tools replace files (/etc, the resolvers' folders in /run); secrets there are
 * kept by their modes from a session that serves, which is no user of the node.
 */
import { dirname } from 'node:path'

/**
 * What may be done: `read` and `run` (which is read as well) files below a folder; `write` to a file that is there;
 * `sockets` made and removed in a folder; `unpack` a file to be run. `bind` and `connect`: TCP ports, `first-last`.
 */
export type ViewKind = 'read' | 'run' | 'write' | 'sockets' | 'unpack' | 'bind' | 'connect'

export interface ViewRule {
  readonly kind: ViewKind
  /** A path, which may be missing, or ports. */
  readonly what: string
}

/** native/landlock.c */
export const viewLetters = {
  read: 'r', run: 'x', write: 'w', sockets: 's', unpack: 'u', bind: 'b', connect: 'c'
} as const satisfies Record<ViewKind, string>

/** What a program of glibc, libuv and V8 reads, wherever the node's distribution has it. */
const everyProgram: readonly ViewRule[] = [
  ...['/lib', '/lib32', '/lib64', '/usr/lib', '/usr/lib32', '/usr/lib64', '/nix/store'].map((what) => ({
    kind: 'run', what
  } as const)),
  // CPUs, huge pages and the group's memory limit; callers' groups, FUSE's limits and mountinfo are in /proc.
  ...['/usr', '/proc', '/sys/devices/system', '/sys/kernel/mm', '/sys/fs/cgroup', '/dev/urandom', '/dev/random'].map(
    (what) => ({ kind: 'read', what } as const)
  ),
  { kind: 'write', what: '/dev/null' }
]

/**
 * getaddrinfo(3): its files, and what /etc/resolv.conf is a link to. Where that is none of the folders that
 * distributions use (netconfig: SUSE; netdog: Bottlerocket) it is the file itself, until somebody replaces it.
 */
const names: readonly ViewRule[] = [
  '/etc', '/run/systemd/resolve', '/run/resolvconf', '/run/NetworkManager', '/run/connman', '/run/netconfig',
  '/run/netdog', '/run/nscd', '/var/lib/sss/pubconf', '/etc/resolv.conf'
].map((what) => ({ kind: 'read', what }))

/** RFC 7766: an answer that is too long for a datagram is asked for again by TCP. */
const resolverPort = 53
/** nfs(5) resvport; where the kernel's client begins as well (sunrpc.min_resvport). */
const sourcePorts = '665-1023'

export interface ViewRequest {
  /** The program and what it loads beside the system's libraries. */
  readonly program: readonly ViewRule[]
  readonly socketPath: string
  /**
   * All ports of its server, where the volume fixes them. Else any: mountd and nfsd are where the port mapper says, and
   * may come back elsewhere.
   */
  readonly serverPorts: readonly number[] | undefined
}

export function sessionView ({ program, socketPath, serverPorts }: ViewRequest): readonly ViewRule[] {
  return [
    ...everyProgram, ...names, ...program,
    { kind: 'sockets', what: dirname(socketPath) },
    { kind: 'bind', what: sourcePorts },
    ...serverPorts === undefined
      ? []
      : [...new Set([...serverPorts, resolverPort])].map(
        (port) => ({ kind: 'connect', what: `${port}-${port}` } as const)
      )
  ]
}
