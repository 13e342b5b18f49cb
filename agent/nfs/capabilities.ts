/**
 * What FSINFO and PATHCONF say, as the file system needs it.
 * Owns the choice of transfer sizes. Pure.
 */
import { fileNameBytesMax, ioBytesMax, kibibyteBytes } from '../base/limits.ts'
import type { BackendCapabilities } from '../fs/backend.ts'
import { type FsinfoOk, fsinfoProperties } from '../../proto/nfs3/fsinfo.ts'
import type { PathconfOk } from '../../proto/nfs3/pathconf.ts'

/** nfs(5): smaller values of rsize and wsize are replaced. */
const transferBytesMin = 4 * kibibyteBytes
const directoryBytesMin = 8 * kibibyteBytes

/**
 * nfs(5): the option, but never more than the server's maximum; without an option the server's maximum, which is what
 * the kernel's client uses. Multiples of 4 KiB, so that pages are not split over two calls.
 */
function transferBytes (option: number | undefined, serverMaxBytes: number): number {
  const limit = Math.min(ioBytesMax, serverMaxBytes === 0 ? ioBytesMax : serverMaxBytes)
  const wanted = option === undefined || option < transferBytesMin ? limit : Math.min(option, limit)
  return wanted >= transferBytesMin ? wanted - wanted % transferBytesMin : wanted
}

export function capabilitiesOf (
  info: FsinfoOk, pathconf: PathconfOk | undefined,
  options: { readonly rsizeBytes: number | undefined, readonly wsizeBytes: number | undefined }
): BackendCapabilities {
  const has = (bit: number): boolean => (info.properties & bit) !== 0
  return {
    hardLinks: has(fsinfoProperties.FSF3_LINK),
    symlinks: has(fsinfoProperties.FSF3_SYMLINK),
    unstableWrites: true,
    readBytesMax: transferBytes(options.rsizeBytes, info.rtmaxBytes),
    writeBytesMax: transferBytes(options.wsizeBytes, info.wtmaxBytes),
    directoryBytesPreferred: Math.min(ioBytesMax, Math.max(directoryBytesMin, info.dtprefBytes)),
    fileBytesMax: info.maxfilesizeBytes === 0 ? Number.MAX_SAFE_INTEGER : info.maxfilesizeBytes,
    nameBytesMax: pathconf === undefined || pathconf.nameBytesMax === 0
      ? fileNameBytesMax
      : Math.min(fileNameBytesMax, pathconf.nameBytesMax)
  }
}
