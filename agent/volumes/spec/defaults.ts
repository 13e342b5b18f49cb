/**
 * What a volume is when nobody says otherwise: nfs(5), and what nobody else's changes allow (`consistency=solowriter`).
 * Owns those values, once. Does not know words: `spec.ts` parses, and `key.ts` leaves out what is as here.
 */
import {
  defaultCaching, type CachingOptions, type ClientKind, type Consistency, type MountFlags, type NfsOptions,
  type VolumeSpec
} from '../../base/volume-spec.ts'

/** How long attributes are believed, and whether OPEN asks. */
const caching: Readonly<Record<Consistency, CachingOptions>> = {
  standard: defaultCaching,
  solowriter: {
    ...defaultCaching,
    acregminMs: 60_000, acregmaxMs: 3_600_000, acdirminMs: 60_000, acdirmaxMs: 3_600_000, cto: false
  }
}

export function defaultOptions ({ client, consistency }: {
  readonly client: ClientKind
  readonly consistency: Consistency
}): NfsOptions {
  return {
    version: client === 'fuse' ? '3' : undefined,
    port: undefined,
    mountPort: undefined,
    rsizeBytes: undefined,
    wsizeBytes: undefined,
    nconnect: 1,
    recovery: 'hard',
    timeoMs: 60_000,
    retrans: 2,
    ...caching[consistency],
    resvport: true,
    sec: 'sys',
    retryMs: 0
  }
}

/** A share is somebody else's: its set-id bits and device files mean nothing here unless `suid` and `dev` say so. */
export const defaultFlags: MountFlags = {
  readOnly: false, nosuid: true, nodev: true, noexec: false, noatime: false, nodiratime: false, relatime: false,
  sync: false, dirsync: false
}

/** What every volume has besides its target, its options and its flags. */
export const defaultFacts = {
  type: 'nfs', client: 'fuse', consistency: 'standard', mountPermissions: undefined, mountGroup: undefined,
  idmap: undefined, restraint: undefined
} as const satisfies Omit<VolumeSpec, 'target' | 'flags' | 'clientReason' | 'fsGroupContents'>
