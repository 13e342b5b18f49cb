/**
 * Errors of the engine as gRPC statuses: the border of every call we serve.
 *
 * Owns the total table VolumeErrorCode → gRPC code and the trailers that tell our own clients more than gRPC can.
 * Does not know methods or fields. Codes a kubelet takes as final or not: k8s pkg/volume/csi, isFinalError.
 */
import { Metadata, status } from '@grpc/grpc-js'
import type { ServiceError } from '@grpc/grpc-js'
import { HostError, TransportError, VolumeError, messageOf } from '../base/errors.ts'
import type { VolumeErrorCode } from '../base/errors.ts'
import { codeTrailer, fieldTrailer } from '../../proto/csi/client.ts'

export const grpcCodeOf = {
  INVALID: status.INVALID_ARGUMENT,
  NOT_FOUND: status.NOT_FOUND,
  CONFLICT: status.ALREADY_EXISTS,
  // The caller left out a step: it must not repeat this call before that one.
  PRECONDITION: status.FAILED_PRECONDITION,
  // "An operation is pending for the volume": kubelet tries again and keeps the volume as uncertain.
  IN_PROGRESS: status.ABORTED,
  UNAVAILABLE: status.UNAVAILABLE,
  TIMED_OUT: status.DEADLINE_EXCEEDED,
  EXHAUSTED: status.RESOURCE_EXHAUSTED,
  DENIED: status.PERMISSION_DENIED,
  // What the volume or this node can't do, although the call itself is well formed ("exceeds capabilities" in CSI).
  UNSUPPORTED: status.FAILED_PRECONDITION,
  INTERNAL: status.INTERNAL
} as const satisfies Record<VolumeErrorCode, status>

/** A status that only CSI knows, e.g. OUT_OF_RANGE of NodeExpandVolume. */
export class CsiRefusal extends Error {
  override readonly name = 'CsiRefusal'
  readonly code: status
  constructor (code: status, message: string) {
    super(message)
    this.code = code
  }
}

export interface CallStatus {
  readonly code: status
  readonly details: string
  readonly reason: VolumeErrorCode
  readonly field: string | undefined
}

/** What a thrown value means to the caller. Anything outside the taxonomy is our fault, INTERNAL. */
export function statusOf (thrown: unknown): CallStatus {
  const details = messageOf(thrown)
  if (thrown instanceof VolumeError) {
    return { code: grpcCodeOf[thrown.code], details, reason: thrown.code, field: thrown.field }
  }
  if (thrown instanceof CsiRefusal) return { code: thrown.code, details, reason: 'UNSUPPORTED', field: undefined }
  if (thrown instanceof TransportError) {
    return { code: status.UNAVAILABLE, details, reason: 'UNAVAILABLE', field: undefined }
  }
  if (thrown instanceof HostError) return { code: status.INTERNAL, details, reason: 'INTERNAL', field: undefined }
  return { code: status.INTERNAL, details: `internal error: ${details}`, reason: 'INTERNAL', field: undefined }
}

/** The answer as grpc-js wants it. */
export function toServiceError ({ code, details, reason, field }: CallStatus): Partial<ServiceError> {
  const metadata = new Metadata()
  metadata.set(codeTrailer, reason)
  if (field !== undefined) metadata.set(fieldTrailer, field.replaceAll(/[^\x20-\x7e]/g, '?'))
  return { code, details, metadata }
}
