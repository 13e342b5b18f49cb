import test from 'ava'
import { Errno, errnoName } from '../../../../agent/base/errno.ts'
import { changeTokenOf } from '../../../../agent/nfs/attributes.ts'
import { capabilitiesOf } from '../../../../agent/nfs/capabilities.ts'
import { CredentialCache } from '../../../../agent/nfs/credentials.ts'
import { errnoOf, errnoOfFault } from '../../../../agent/nfs/errors.ts'
import { TransportError } from '../../../../agent/base/errors.ts'
import { nfs3Failures } from '../../../../proto/nfs3/nfsstat.ts'
import { attributes } from './scripted.ts'

test('every status has an errno, and those named alike mean the same', (t) => {
  for (const status of Object.keys(nfs3Failures) as (keyof typeof nfs3Failures)[]) {
    const same = status.replace('NFS3ERR_', 'E')
    if (same in Errno) t.is(errnoName(errnoOf[status]), same)
    else t.true(errnoOf[status] > 0, status)
  }
  t.is(errnoOf.NFS3ERR_BADHANDLE, Errno.ESTALE)
})

test('a timeout is EIO when soft and ETIMEDOUT when softerr', (t) => {
  const error = new TransportError('TIMED_OUT', '', { sent: true })
  t.is(errnoOfFault(error, 'soft'), Errno.EIO)
  t.is(errnoOfFault(error, 'softerr'), Errno.ETIMEDOUT)
})

test('the change token differs when any of ctime, mtime and size does, by one bit anywhere', (t) => {
  const base = changeTokenOf(attributes)
  t.is(changeTokenOf({ ...attributes }), base)
  for (const field of ['ctimeSeconds', 'ctimeNanoseconds', 'mtimeSeconds', 'mtimeNanoseconds'] as const) {
    for (let bit = 0; bit < 32; bit++) {
      t.not(changeTokenOf({ ...attributes, [field]: (attributes[field] ^ (1 << bit)) >>> 0 }), base)
    }
  }
  for (let bit = 0; bit < 53; bit++) {
    t.not(changeTokenOf({ ...attributes, sizeBytes: attributes.sizeBytes + 2 ** bit }), base)
  }
  const seen = new Set(
    Array.from({ length: 100_000 }, (_, index) =>
      changeTokenOf({
        ...attributes, mtimeNanoseconds: index * 1000, ctimeNanoseconds: index * 1000, sizeBytes: index
      }))
  )
  t.is(seen.size, 100_000)
})

const info = {
  attributes: undefined, rtmaxBytes: 64 * 2 ** 20, rtprefBytes: 65536, rtmultBytes: 1, wtmaxBytes: 32768,
  wtprefBytes: 32768, wtmultBytes: 1, dtprefBytes: 512,
  maxfilesizeBytes: 2 ** 40, timeDelta: { seconds: 0, nanoseconds: 1 }, properties: 0x1b
}
const pathconf = {
  attributes: undefined, linkMax: 32000, nameBytesMax: 1024, noTrunc: true, chownRestricted: true,
  caseInsensitive: false, casePreserving: true
}

test('transfer sizes are the option within what server and kernel can', (t) => {
  const sizes = (rsizeBytes: number | undefined, wsizeBytes: number | undefined): number[] => {
    const { readBytesMax, writeBytesMax } = capabilitiesOf(info, pathconf, { rsizeBytes, wsizeBytes })
    return [readBytesMax, writeBytesMax]
  }
  t.deepEqual(sizes(undefined, undefined), [65536, 32768])
  t.deepEqual(sizes(2 ** 20, 2 ** 20), [2 ** 20, 32768])
  t.deepEqual(sizes(65536, 65536), [65536, 32768])
  t.deepEqual(sizes(10_000, 5000), [8192, 4096])
  t.deepEqual(sizes(100, 1), [65536, 32768])
})

test('capabilities are those the server tells', (t) => {
  t.like(capabilitiesOf(info, pathconf, { rsizeBytes: undefined, wsizeBytes: undefined }), {
    hardLinks: true, symlinks: true, nameBytesMax: 255, directoryBytesPreferred: 8192
  })
  const bare = capabilitiesOf({ ...info, properties: 0 }, undefined, { rsizeBytes: undefined, wsizeBytes: undefined })
  t.like(bare, { hardLinks: true, symlinks: true, nameBytesMax: 255 })
})

test('one user has one encoded credential', (t) => {
  const cache = new CredentialCache('node', 7)
  const first = cache.encoded({ uid: 1, gid: 2, groups: [3], key: 'a' })
  t.is(cache.encoded({ uid: 1, gid: 2, groups: [3], key: 'a' }), first)
  t.notDeepEqual(cache.encoded({ uid: 1, gid: 2, groups: [4], key: 'b' }), first)
})
