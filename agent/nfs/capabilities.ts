/**
 * What FSINFO and PATHCONF say, as the file system needs it.
 * Owns the choice of transfer sizes. Pure.
 */
import { fileNameBytesMax, ioBytesMax, kibibyteBytes } from '../base/limits.ts'
import type { BackendCapabilities } from '../fs/backend.ts'
import type { FsinfoOk } from '../../proto/nfs3/fsinfo.ts'
import type { PathconfOk } from '../../proto/nfs3/pathconf.ts'

/** nfs(5): smaller values of rsize and wsize are replaced. */
const transferBytesMin = 4 * kibibyteBytes
const directoryBytesMin = 8 * kibibyteBytes
/** Below these a maximum and a preferred size are no figures to believe (fs/nfs/client.c, nfs_io_size). */
const serverMaxBytesMin = 512
const serverPreferredBytesMin = 1024

/**
 * nfs(5): the option, but never more than the server's maximum; without an option the size that the server prefers, as
 * the kernel's client has it (fs/nfs/client.c, nfs_server_set_fsinfo). Multiples of 4 KiB, so that pages are not split
 * over two calls. A server that names neither gets 4 KiB.
 */
function transferBytes (
  option: number | undefined,
  server: { readonly max: number, readonly preferred: number }
): number {
  const preferred = server.preferred < serverPreferredBytesMin ? undefined : server.preferred
  const max = Math.min(ioBytesMax, server.max < serverMaxBytesMin ? preferred ?? transferBytesMin : server.max)
  const asked = option === undefined || option < transferBytesMin ? preferred ?? max : option
  const wanted = Math.min(asked, max)
  return wanted >= transferBytesMin ? wanted - wanted % transferBytesMin : wanted
}

export interface CapabilityOptions {
  readonly rsizeBytes: number | undefined
  readonly wsizeBytes: number | undefined
  readonly nordirplus?: true | undefined
}

export function capabilitiesOf (
  info: FsinfoOk, pathconf: PathconfOk | undefined, options: CapabilityOptions
): BackendCapabilities {
  return {
    // FSINFO has a word about both. The kernel's client asks all the same, and a server that has none says so then.
    hardLinks: true,
    symlinks: true,
    unstableWrites: true,
    readBytesMax: transferBytes(options.rsizeBytes, { max: info.rtmaxBytes, preferred: info.rtprefBytes }),
    writeBytesMax: transferBytes(options.wsizeBytes, { max: info.wtmaxBytes, preferred: info.wtprefBytes }),
    directoryBytesPreferred: Math.min(ioBytesMax, Math.max(directoryBytesMin, info.dtprefBytes)),
    directoryAttributes: options.nordirplus !== true,
    fileBytesMax: info.maxfilesizeBytes === 0 ? Number.MAX_SAFE_INTEGER : info.maxfilesizeBytes,
    nameBytesMax: pathconf === undefined || pathconf.nameBytesMax === 0
      ? fileNameBytesMax
      : Math.min(fileNameBytesMax, pathconf.nameBytesMax)
  }
}
