/**
 * What the kernel's NFS client is told at mount(2), in the words of nfs(5) as `fs/nfs/fs_context.c` reads them.
 *
 * Owns that text. The kernel resolves no names and knows no defaults of ours: addresses and ports come as numbers. Does
 * not mount.
 */
import { isIPv6 } from 'node:net'
import type { KernelNfsVersion, NfsOptions } from '../base/volume-spec.ts'

export interface KernelServerFacts {
  readonly version: KernelNfsVersion
  readonly address: string
  readonly port: number
  /** Version 3 only. */
  readonly mountPort: number | undefined
  /** Version 4: where the server reaches us, for the callbacks of 4.0. */
  readonly clientAddress: string | undefined
}

const seconds = (ms: number): number => Math.round(ms / 1000)

const given = (name: string, value: number | string | undefined): string[] =>
  value === undefined ? [] : [`${name}=${value}`]
const flag = (isSet: boolean, name: string): string[] => isSet ? [name] : []

export function kernelOptions (options: NfsOptions, server: KernelServerFacts): string {
  const { version, address, port, mountPort, clientAddress } = server
  // `proto=tcp` means IPv4 alone.
  const proto = isIPv6(address) ? 'tcp6' : 'tcp'
  const isV3 = version === '3'
  return [
    `vers=${version}`, `proto=${proto}`, `addr=${address}`, `port=${port}`,
    ...isV3
      ? ['mountvers=3', `mountproto=${proto}`, `mountaddr=${address}`, ...given('mountport', mountPort)]
      : given('clientaddr', clientAddress),
    options.recovery, `timeo=${Math.round(options.timeoMs / 100)}`, `retrans=${options.retrans}`,
    ...given('rsize', options.rsizeBytes), ...given('wsize', options.wsizeBytes),
    ...flag(options.nconnect > 1, `nconnect=${options.nconnect}`),
    `acregmin=${seconds(options.acregminMs)}`, `acregmax=${seconds(options.acregmaxMs)}`,
    `acdirmin=${seconds(options.acdirminMs)}`, `acdirmax=${seconds(options.acdirmaxMs)}`,
    ...flag(options.noac, 'noac'), ...flag(!options.cto, 'nocto'), ...flag(!options.resvport, 'noresvport'),
    ...flag(options.lookupCache !== 'all', `lookupcache=${options.lookupCache}`),
    ...flag(options.softReval === true, 'softreval'), ...flag(isV3 && options.noAcl === true, 'noacl'),
    // The lock protocol of version 3 needs rpc.statd on the node, which is not there unless somebody put it there and
    // says so.
    ...flag(isV3, options.locks === 'remote' ? 'lock' : 'nolock'),
    `sec=${options.sec}`,
    ...flag(options.nordirplus === true, 'nordirplus'), ...options.kernelWords ?? [],
    // A file system of its own for each volume: aborting one that is dead must not hit another, nor a mount that is not
    // ours.
    'nosharecache'
  ].join(',')
}
