import { status } from '@grpc/grpc-js'
import test from 'ava'
import { HostError, TransportError, VolumeError, volumeErrorCodes } from '../../../../agent/base/errors.ts'
import { grpcCodeOf, statusOf, toServiceError } from '../../../../agent/csi/grpc-status.ts'

// What kubelet takes as "not final, the mount may exist": k8s pkg/volume/csi/csi_client.go, isFinalError.
const notFinal = new Set([
  status.CANCELLED, status.DEADLINE_EXCEEDED, status.UNAVAILABLE, status.RESOURCE_EXHAUSTED, status.ABORTED
])

test('every code of the taxonomy has a gRPC code, and none is OK or UNKNOWN', (t) => {
  for (const code of volumeErrorCodes) {
    const found = statusOf(new VolumeError(code, 'why'))
    t.is(found.code, grpcCodeOf[code])
    t.false(([status.OK, status.UNKNOWN] as number[]).includes(found.code), code)
    t.is(found.reason, code)
  }
})

test('codes that leave a mount uncertain are those a kubelet does not take as final', (t) => {
  for (const code of ['IN_PROGRESS', 'TIMED_OUT', 'UNAVAILABLE', 'EXHAUSTED'] as const) {
    t.true(notFinal.has(grpcCodeOf[code]), code)
  }
  for (const code of ['INVALID', 'NOT_FOUND', 'CONFLICT', 'PRECONDITION', 'DENIED', 'UNSUPPORTED'] as const) {
    t.false(notFinal.has(grpcCodeOf[code]), code)
  }
})

test('a failure outside the taxonomy is our fault, a lost transport is not', (t) => {
  t.is(statusOf(new TypeError('x')).code, status.INTERNAL)
  t.is(statusOf('thrown text').code, status.INTERNAL)
  t.is(statusOf(new HostError({ code: 'EBUSY', errno: 16, call: 'umount' })).code, status.INTERNAL)
  t.is(statusOf(new TransportError('REFUSED', 'x', { sent: false })).code, status.UNAVAILABLE)
})

test('the field at fault travels beside the message, also when its name is not ASCII', (t) => {
  const error = toServiceError(statusOf(new VolumeError('INVALID', 'bad', { field: 'sübDir' })))
  t.deepEqual(error.metadata?.get('volbridge-field'), ['s?bDir'])
  t.deepEqual(error.metadata?.get('volbridge-code'), ['INVALID'])
})
