/**
 * Transport faults while mounting, in an operator's words: the border transport → volume.
 * Owns the total table. Faults after the mount never get here: they are waited out.
 */
import { messageOf, TransportError, VolumeError, type VolumeErrorCode, WireError } from '../base/errors.ts'
import { RejectedError } from '../rpc/call.ts'
import { type Endpoint, showEndpoint } from '../rpc/connection.ts'
import type { RejectionKind } from '../../proto/rpc/reply.ts'

const faults = {
  REFUSED: { code: 'UNAVAILABLE', why: 'refuses connections' },
  UNREACHABLE: { code: 'UNAVAILABLE', why: 'cannot be reached' },
  RESOLVE: { code: 'UNAVAILABLE', why: 'cannot be found' },
  LOST: { code: 'UNAVAILABLE', why: 'ended the connection' },
  TIMED_OUT: { code: 'UNAVAILABLE', why: 'does not answer' },
  CLOSED: { code: 'UNAVAILABLE', why: 'was left' },
  REJECTED: { code: 'DENIED', why: 'refuses the request' }
} as const satisfies Record<TransportError['code'], { code: VolumeErrorCode, why: string }>

/** Version 3 is what is asked for where nobody names a version. */
export const version4Remedy = 'a server that speaks version 4 alone is mounted with vers=4.1'

const versionProblems: ReadonlySet<RejectionKind> = new Set([
  'PROG_UNAVAIL', 'PROG_MISMATCH', 'PROC_UNAVAIL', 'RPC_MISMATCH'
])

/** `service` is a noun phrase, `option` the mount option that names its port. Anything but a fault of server or network
 * is returned as it is. */
export function transportFault (error: unknown, service: string, endpoint: Endpoint, option: string): Error {
  const where = `server: ${service} at ${showEndpoint(endpoint)}`
  if (error instanceof RejectedError) {
    if (versionProblems.has(error.rejection.kind)) {
      return new VolumeError('UNAVAILABLE', `${where} does not offer NFS version 3 (${error.message})`, {
        field: 'server', remedy: `enable NFSv3 on the server, or check the mount option ${option}=; ${version4Remedy}`,
        cause: error
      })
    }
    return new VolumeError('DENIED', `${where} ${faults.REJECTED.why} (${error.message})`, {
      field: 'server', remedy: 'allow this node and sec=sys in the server\'s exports', cause: error
    })
  }
  if (error instanceof TransportError) {
    const { code, why } = faults[error.code]
    return new VolumeError(code, `${where} ${why} (${error.message})`, {
      field: 'server',
      remedy: `check that the server is up, that no firewall is in between, and the mount option ${option}=`,
      cause: error
    })
  }
  if (error instanceof WireError) {
    return new VolumeError('UNAVAILABLE', `${where} does not speak its protocol (${error.message})`, {
      field: 'server', remedy: `check the mount option ${option}=`, cause: error
    })
  }
  return error instanceof Error ? error : new Error(messageOf(error))
}
