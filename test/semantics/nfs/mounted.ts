/**
 * A real server and our client on it, for the tests of this folder.
 * Owns the target with plain options; tests override what they are about.
 */
import { connectNfs, type ConnectDependencies } from '../../../agent/nfs/connect.ts'
import type { NfsClient } from '../../../agent/nfs/client.ts'
import { isErrno, errnoName, type Errno } from '../../../agent/base/errno.ts'
import { fileNameOfBytes, type FileName } from '../../../agent/base/brands.ts'
import type { NfsOptions, NfsTarget } from '../../../agent/base/volume-spec.ts'
import type { Credential } from '../../../agent/fs/backend.ts'

export const root: Credential = { uid: 0, gid: 0, groups: [], key: 'root' }
export const user = (uid: number, gid: number, groups: readonly number[] = []): Credential => ({
  uid, gid, groups, key: `${uid}:${gid}:${groups.join()}`
})

export const plainOptions: NfsOptions = {
  version: '3',
  port: undefined,
  mountPort: undefined,
  rsizeBytes: undefined,
  wsizeBytes: undefined,
  nconnect: 1,
  recovery: 'hard',
  timeoMs: 60_000,
  retrans: 2,
  acregminMs: 3000,
  acregmaxMs: 60_000,
  acdirminMs: 30_000,
  acdirmaxMs: 60_000,
  noac: false,
  lookupCache: 'all',
  resvport: true,
  cto: true,
  sec: 'sys',
  retryMs: 0
}

/** What of a server the client needs; test/peers/ganesha.ts fits. */
export interface ServerFacts {
  readonly host: string
  readonly nfsPort: number
  readonly mountPort: number
  readonly folder: string
}

export function targetOf (
  server: ServerFacts,
  { options = {}, ...overrides }: Partial<Omit<NfsTarget, 'options'>> & { options?: Partial<NfsOptions> } = {}
): NfsTarget {
  return {
    servers: [server.host],
    share: server.folder,
    subDir: [],
    ...overrides,
    options: { ...plainOptions, port: server.nfsPort, mountPort: server.mountPort, ...options }
  }
}

export async function mounted (
  server: ServerFacts,
  overrides: Parameters<typeof targetOf>[1] = {},
  dependencies: ConnectDependencies = {}
): Promise<NfsClient> {
  return await connectNfs(targetOf(server, overrides), dependencies)
}

export const name = (text: string | Buffer): FileName => fileNameOfBytes(Buffer.from(text))

/** The value, or a failure that names the errno. */
export function good<T> (value: T | Errno): T {
  if (isErrno(value)) throw new Error(`answered ${errnoName(value)}`)
  return value
}
