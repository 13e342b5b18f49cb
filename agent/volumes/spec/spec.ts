/**
 * Volume attributes → VolumeSpec: the one place that knows how a volume is spelled, for every door.
 * Owns attribute names, defaults, contradictions and the choice of client. Does not know where attributes came from, or
 * what is mounted. Names and meanings follow csi-driver-nfs and nfs(5) where those have one; names are taken in any
 * case, as csi-driver-nfs does.
 */
import { toFileName, type FileName } from '../../base/brands.ts'
import { VolumeError } from '../../base/errors.ts'
import { fileNameBytesMax } from '../../base/limits.ts'
import {
  fsGroupContents,
  type ClientKind,
  type Consistency,
  type FsGroupContents,
  type Identity,
  type NfsOptions,
  type NfsVersion,
  type NfsVolumeSpec,
  type VolumeSpec
} from '../../base/volume-spec.ts'
import { defaultOptions } from './defaults.ts'
import { parseMountOptions, splitOptions, toMountFlags } from './mount-options.ts'
import type { KernelSetting, OptionSettings } from './option-rows.ts'
import { parseServers } from './servers.ts'
import { suggest } from './suggestion.ts'

export interface SpecExtras {
  /** CSI mount_flags, from the PV's mountOptions; each may be a comma list. */
  readonly mountFlags: readonly string[]
  /** CSI volume_mount_group or a Flex fsGroup. */
  readonly mountGroup?: number | undefined
  /** Adds `ro`, where a door has a field for it that belongs to the whole volume. */
  readonly readOnly?: boolean | undefined
}

const attributeNames = [
  'type', 'server', 'share', 'subDir', 'client', 'consistency', 'identity', 'idmap', 'mountOptions', 'mountPermissions',
  'fsGroupContents', 'onDelete'
] as const
type AttributeName = typeof attributeNames[number]
type Attributes = Readonly<Partial<Record<AttributeName, string>>>

/** RFC 1813 appendix I: MNTPATHLEN. */
const MNTPATHLEN = 1024
/** Set by kubelet and the sidecars, never by a user for us. */
const kubernetesKey = /^([a-z0-9-]+\.)*(kubernetes\.io|k8s\.io)\//

function refuse (field: string, value: string, why: string, remedy: string): never {
  throw new VolumeError('INVALID', `${field}: ${JSON.stringify(value.slice(0, 300))} ${why}`, { field, remedy })
}

/** @throws VolumeError INVALID naming field, value and remedy. The result is frozen. */
export function parseVolumeSpec (
  attributes: Readonly<Record<string, string>>,
  extras: SpecExtras = { mountFlags: [] }
): VolumeSpec {
  const known = readAttributes(attributes)
  const type = known.type ?? 'nfs'
  if (type !== 'nfs') refuse('type', type, 'is not a known type of volume', 'use nfs or leave it out')
  checkOnDelete(known.onDelete)
  const mountOptions = splitOptions([
    known.mountOptions ?? '', ...extras.mountFlags, extras.readOnly === true ? 'ro' : ''
  ])
  const { settings, notes } = parseMountOptions(mountOptions)
  const version = versionOf(settings)
  const { client, clientReason } = chooseClient(known.client ?? 'auto', version)
  checkClient(client, version, settings)
  const consistency = parseConsistency(known.consistency ?? 'standard', client, settings)
  const identity = known.identity === undefined ? undefined : parseIdentity(known.identity, client)
  const contents = known.fsGroupContents === undefined ? undefined : parseFsGroupContents(known.fsGroupContents, client)
  const spec: NfsVolumeSpec = {
    type: 'nfs',
    target: Object.freeze({
      servers: parseServers(required(known, 'server', 'the name or address of the NFS server')),
      share: parseShare(required(known, 'share', 'the exported path')),
      subDir: parseSubDir(known.subDir ?? ''),
      options: toNfsOptions(settings, { client, version: client === 'fuse' ? '3' : version, consistency }),
      ...identity === undefined ? undefined : { identity }
    }),
    client,
    clientReason,
    consistency,
    flags: toMountFlags(settings),
    mountPermissions: parsePermissions(known.mountPermissions ?? '0'),
    mountGroup: extras.mountGroup,
    ...parseIdmap(known.idmap ?? 'false', client) ? { idmap: true } : undefined,
    ...contents === undefined ? undefined : { fsGroupContents: contents },
    ...notes[client].length === 0 ? undefined : { optionNotes: Object.freeze([...new Set(notes[client])]) }
  }
  return Object.freeze(spec)
}

function readAttributes (attributes: Readonly<Record<string, string>>): Attributes {
  const byLowerCase = new Map(attributeNames.map((name) => [name.toLowerCase(), name]))
  const found = new Map<AttributeName, string>()
  for (const [key, value] of Object.entries(attributes)) {
    if (kubernetesKey.test(key)) continue
    const name = byLowerCase.get(key.toLowerCase())
    if (name === undefined) {
      return refuse('volume attributes', key, 'is not a known attribute', suggest(key, attributeNames))
    }
    if (found.has(name)) refuse(name, value, 'is given twice in different spelling', 'keep one')
    if (value.includes('\0')) refuse(name, value, 'contains a NUL byte', 'remove it')
    found.set(name, value.trim())
  }
  return Object.fromEntries(found)
}

function required (known: Attributes, name: AttributeName, what: string): string {
  const value = known[name]
  if (value !== undefined && value !== '') return value
  throw new VolumeError('INVALID', `${name}: ${value === undefined ? 'is missing' : '"" is empty'}`, {
    field: name, remedy: `set it to ${what}`
  })
}

function parseShare (text: string): string {
  if (!text.startsWith('/')) refuse('share', text, 'is not absolute', 'start it with "/"')
  const parts = text.split('/').filter((part) => part !== '')
  if (parts.some((part) => part === '..' || part === '.')) {
    refuse('share', text, 'contains "." or ".."', 'give the path as the server exports it')
  }
  const share = `/${parts.join('/')}`
  if (Buffer.byteLength(share) > MNTPATHLEN) {
    refuse('share', text, `is longer than ${MNTPATHLEN} bytes`, 'export a shorter path and use subDir')
  }
  return share
}

function parseSubDir (text: string): readonly FileName[] {
  if (text.includes('${')) {
    refuse('subDir', text, 'contains a template that nobody has filled in', 'write the folder\'s name')
  }
  const parts = text.split('/').filter((part) => part !== '' && part !== '.')
  if (parts.includes('..')) {
    refuse('subDir', text, 'contains ".."', 'a subDir never leaves its share; mount another share or subDir')
  }
  if (parts.some((part) => Buffer.byteLength(part) > fileNameBytesMax)) {
    refuse('subDir', text, `has a name of more than ${fileNameBytesMax} bytes`, 'shorten it')
  }
  if (Buffer.byteLength(text) > 4095) refuse('subDir', text, 'is longer than 4095 bytes', 'shorten it')
  return Object.freeze(parts.map((part) => toFileName(Buffer.from(part, 'utf8').toString('latin1'))))
}

const minorVersions = { 0: '4.0', 1: '4.1', 2: '4.2' } as const satisfies Record<0 | 1 | 2, NfsVersion>

function versionOf (settings: OptionSettings): NfsVersion | undefined {
  const { version, minorVersion } = settings
  if (minorVersion === undefined) return version
  const combined = minorVersions[minorVersion]
  /* `vers=4,minorversion=1` is the old spelling of 4.1. */
  if (version === undefined || version === '4' || version === combined) return combined
  return refuse(
    'mountOptions',
    `minorversion=${minorVersion}`,
    `contradicts version ${version}`,
    'write vers=4.0, vers=4.1, vers=4.2 or vers=3 alone'
  )
}

function chooseClient (text: string, version: NfsVersion | undefined): { client: ClientKind, clientReason: string } {
  if (text === 'fuse' || text === 'kernel') return { client: text, clientReason: `client=${text} was asked for` }
  if (text !== 'auto') return refuse('client', text, 'is not a known client', suggest(text, ['fuse', 'kernel', 'auto']))
  if (version === undefined) {
    return { client: 'fuse', clientReason: 'auto: no NFS version was asked for, the own client speaks version 3' }
  }
  if (version === '3') return { client: 'fuse', clientReason: 'auto: the own client speaks NFS version 3' }
  return { client: 'kernel', clientReason: `auto: NFS version ${version} is spoken by the kernel's client only` }
}

/** What the chosen client cannot do is refused by name; accepting and ignoring it would be a lie. */
function checkClient (client: ClientKind, version: NfsVersion | undefined, settings: OptionSettings): void {
  if (settings.proto === 'udp' || settings.proto === 'udp6') {
    refuse(
      'mountOptions',
      `proto=${settings.proto}`,
      'is not supported: NFS over UDP corrupts data on fast networks (nfs(5))',
      'use proto=tcp'
    )
  }
  if (settings.proto === 'rdma') refuse('mountOptions', 'proto=rdma', 'is not supported', 'use proto=tcp')
  if (client !== 'fuse') return
  if (version !== undefined && version !== '3') {
    refuse(
      'mountOptions',
      `vers=${version}`,
      'is not spoken by client=fuse, which speaks version 3',
      'use vers=3, or client=kernel'
    )
  }
  if (settings.sec?.split(':').includes('sys') === false) {
    refuse(
      'mountOptions',
      `sec=${settings.sec}`,
      'is not spoken by client=fuse, which speaks sys',
      'use sec=sys, or client=kernel'
    )
  }
  if (settings.locks === 'remote') {
    refuse(
      'mountOptions',
      'lock',
      'asks for locks on the server, and NFS version 3 without its lock protocol has none: locks are local to the node',
      'use nolock (or local_lock=all), or client=kernel with vers=4.1'
    )
  }
}

function parseConsistency (text: string, client: ClientKind, settings: OptionSettings): Consistency {
  if (text !== 'standard' && text !== 'solowriter') {
    return refuse('consistency', text, 'is not known', suggest(text, ['standard', 'solowriter']))
  }
  if (text === 'solowriter' && client === 'kernel') {
    refuse('consistency', text, 'exists with client=fuse only', 'use consistency=standard or client=fuse')
  }
  if (text === 'solowriter' && settings.noac === true) {
    refuse(
      'mountOptions',
      'noac',
      'contradicts consistency=solowriter: one keeps nothing, the other all it can',
      'leave one of them out'
    )
  }
  return text
}

/** The largest id: (uid_t) -1 means "no user" to every system. */
const idMax = 0xffff_fffe

function parseIdentity (text: string, client: ClientKind): Identity {
  const [, uid, gid] = /^(\d{1,10}):(\d{1,10})$/.exec(text) ?? []
  if (uid === undefined || gid === undefined || Number(uid) > idMax || Number(gid) > idMax) {
    return refuse(
      'identity',
      text,
      'is not UID:GID',
      `write two numbers up to ${idMax} with a colon between them, like 1000:1000`
    )
  }
  if (client === 'kernel') {
    refuse(
      'identity',
      text,
      'exists with client=fuse only: the kernel\'s client sends each caller as who it is',
      'use client=fuse, or leave identity out'
    )
  }
  return Object.freeze({ uid: Number(uid), gid: Number(gid) })
}

function parseIdmap (text: string, client: ClientKind): boolean {
  if (text !== 'true' && text !== 'false') refuse('idmap', text, 'is neither true nor false', 'write true or false')
  if (text === 'true' && client === 'kernel') {
    refuse(
      'idmap',
      text,
      'exists with client=fuse only: the kernel\'s NFS client has no idmapped mounts',
      'use client=fuse, or leave idmap out and run the pod with hostUsers: true'
    )
  }
  return text === 'true'
}

function parseFsGroupContents (text: string, client: ClientKind): FsGroupContents {
  const found = fsGroupContents.find((word) => word === text)
  if (found === undefined) return refuse('fsGroupContents', text, 'is not known', suggest(text, fsGroupContents))
  if (found !== 'never' && client === 'kernel') {
    refuse(
      'fsGroupContents',
      text,
      'exists with client=fuse only: with the kernel\'s client the root alone gets the group',
      'use client=fuse, or fsGroupContents=never'
    )
  }
  return found
}

function parsePermissions (text: string): number | undefined {
  if (!/^[0-7]{1,5}$/.test(text) || Number.parseInt(text, 8) > 0o7777) {
    refuse('mountPermissions', text, 'is not an octal mode', 'write it like 0770, or 0 to leave the mode alone')
  }
  const mode = Number.parseInt(text, 8)
  return mode === 0 ? undefined : mode
}

function checkOnDelete (text: string | undefined): void {
  const known = ['delete', 'retain', 'archive']
  if (text !== undefined && text !== '' && !known.includes(text)) {
    refuse('onDelete', text, 'is not known', suggest(text, known))
  }
}

interface Choices {
  readonly client: ClientKind
  readonly version: NfsVersion | undefined
  readonly consistency: Consistency
}

function toNfsOptions (settings: OptionSettings, { client, version, consistency }: Choices): NfsOptions {
  const usual = defaultOptions({ client, consistency })
  const inMs = (seconds: number | undefined): number | undefined => seconds === undefined ? undefined : seconds * 1000
  const options: NfsOptions = {
    version,
    port: settings.port,
    mountPort: settings.mountPort,
    rsizeBytes: settings.rsizeBytes,
    wsizeBytes: settings.wsizeBytes,
    nconnect: settings.nconnect ?? usual.nconnect,
    recovery: settings.recovery ?? usual.recovery,
    timeoMs: settings.timeoDeciseconds === undefined ? usual.timeoMs : settings.timeoDeciseconds * 100,
    retrans: settings.retrans ?? usual.retrans,
    acregminMs: inMs(settings.acregminSeconds) ?? usual.acregminMs,
    acregmaxMs: inMs(settings.acregmaxSeconds) ?? usual.acregmaxMs,
    acdirminMs: inMs(settings.acdirminSeconds) ?? usual.acdirminMs,
    acdirmaxMs: inMs(settings.acdirmaxSeconds) ?? usual.acdirmaxMs,
    noac: settings.noac ?? usual.noac,
    lookupCache: settings.lookupCache ?? usual.lookupCache,
    resvport: settings.resvport ?? usual.resvport,
    cto: settings.cto ?? usual.cto,
    sec: client === 'fuse' ? usual.sec : settings.sec ?? usual.sec,
    retryMs: settings.retryMinutes === undefined ? usual.retryMs : settings.retryMinutes * 60_000,
    /* Only where they mean something: what the own client ignores must not make two volumes of one. */
    ...client === 'kernel' ? kernelOnly(settings) : settings.softReval === false ? { softReval: false } : {},
    ...settings.rdirplus === false ? { nordirplus: true } : {}
  }
  checkRange('acregmin', options.acregminMs, 'acregmax', options.acregmaxMs, settings.acregminSeconds !== undefined)
  checkRange('acdirmin', options.acdirminMs, 'acdirmax', options.acdirmaxMs, settings.acdirminSeconds !== undefined)
  return Object.freeze(options)
}

/** What the kernel's client alone is told, each in the words it was written in. */
const kernelSettings = [
  'kernelAlignWrite', 'kernelClientAddr', 'kernelFsc', 'kernelMaxConnect', 'kernelMigration', 'kernelNetErrors',
  'kernelTrunkDiscovery', 'kernelWrite'
] as const satisfies readonly KernelSetting[]

function kernelOnly (settings: OptionSettings): Partial<NfsOptions> {
  const words = kernelSettings.flatMap((name) => settings[name] ?? [])
  return {
    locks: settings.locks,
    softReval: settings.softReval === true ? true : undefined,
    noAcl: settings.acl === false ? true : undefined,
    ...words.length === 0 ? undefined : { kernelWords: Object.freeze(words) }
  }
}

function checkRange (minName: string, minMs: number, maxName: string, maxMs: number, minGiven: boolean): void {
  if (minMs <= maxMs) return
  const [name, value] = minGiven ? [minName, minMs] : [maxName, maxMs]
  refuse(
    'mountOptions',
    `${name}=${value / 1000}`,
    `makes ${minName} (${minMs / 1000} s) larger than ${maxName} (${maxMs / 1000} s)`,
    'set both, the smaller first'
  )
}
