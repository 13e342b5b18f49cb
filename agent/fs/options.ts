/**
 * What can be chosen about the core. Owns the type and the defaults; those of nfs(5) are in base.
 * Does not know how an operator spells them.
 */
import {
  accessAnswersMax, dirtyFileBytesMax, dirtySessionBytesMax, knownInodesMax, listingsBytesMax,
  openHandlesMax, waitingBytesMax
} from '../base/limits.ts'
import { defaultCaching, type CachingOptions } from '../base/volume-spec.ts'

export interface FilesystemOptions extends CachingOptions {
  /**
   * The kernel keeps written pages and says size and times of files itself (consistency=solowriter). It ends for an
   * object that somebody else changes: that one is handled with the defaults of nfs(5) from then on.
   */
  readonly soloWriter: boolean
  /** Bytes of one file that may be unwritten or uncommitted; then its writers wait. */
  readonly dirtyFileBytesMax: number
  /** The same for the session; the arena's capacity is a limit too. */
  readonly dirtySessionBytesMax: number
  /** GETATTR, LOOKUP and STATFS of what is known are answered from last values when the server is silent for so
   * long. */
  readonly softRevalMs: number | undefined
  /** New objects get this group, and it may read and write them (CSI volume_mount_group). */
  readonly mountGroup: number | undefined
  /** The kernel checks mode bits before it asks us (FUSE `default_permissions`), as idmapped mounts need it. */
  readonly kernelChecks: boolean
  /**
   * link(2) needs what sysctl fs.protected_hardlinks wants (kernel fs/namei.c, may_linkat): the kernel leaves it to us.
   */
  readonly protectedHardlinks: boolean
  /** Set-id programs give nobody rights, whatever has become of the mount's own flag (beliefs/set-id.ts). */
  readonly nosuid: boolean
  /** How long written bytes wait for more before they are sent, when nobody asks for them. */
  readonly writeDelayMs: number
  /** How long bytes that the server has only in memory wait for a COMMIT, when nobody asks for one. */
  readonly commitDelayMs: number
  readonly writesInFlightMax: number
  readonly namesMax: number
  /** Answers of ACCESS that are remembered. */
  readonly accessAnswersMax: number
  /** Memory of listings that can be had again. */
  readonly listingsBytesMax: number
  /** Inodes without a kernel reference that are kept for a reply that is still on its way, or because a listing brought
   * them (about 1 KiB each). */
  readonly idleInodesMax: number
  /** Copies of bytes whose writers wait for memory; those beyond get ENOMEM. */
  readonly waitingBytesMax: number
  /** Open files and folders; those beyond get ENFILE. */
  readonly openHandlesMax: number
  /** Objects that the kernel may know before it is asked to forget some. */
  readonly knownInodesMax: number
}

export const defaultOptions: FilesystemOptions = {
  ...defaultCaching,
  soloWriter: false,
  dirtyFileBytesMax,
  dirtySessionBytesMax,
  softRevalMs: undefined,
  nosuid: false,
  mountGroup: undefined,
  kernelChecks: false,
  protectedHardlinks: true,
  // Shorter than the kernel's 30 s: what a dying session can lose is what close(2) and fsync(2) have not seen yet.
  writeDelayMs: 1_000,
  commitDelayMs: 5_000,
  // 16 x 1 MiB covers 100 ms of round trip at 160 MB/s and leaves call slots to other files.
  writesInFlightMax: 16,
  namesMax: 65_536,
  accessAnswersMax,
  listingsBytesMax,
  waitingBytesMax,
  openHandlesMax,
  idleInodesMax: 8_192,
  knownInodesMax
}
