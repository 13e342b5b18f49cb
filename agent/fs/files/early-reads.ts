/**
 * The bytes of a small file, asked for together with the permission to open it: most programs read what they open, and
 * then the answer is there. One round trip less, and two calls leave in one write. For most files it also is the
 * question whether the opener may read: then ACCESS is not asked at all.
 *
 * Owns when that is worth it and when the bytes may be used: by the first read of that descriptor, soon after, and only
 * when nothing says that the file changed since. Close-to-open holds, because the server reads after the OPEN has
 * arrived here. Does not know permissions: the READ carries the opener's credential, and what comes back is dropped
 * when the OPEN is refused.
 */
import { isErrno } from '../../base/errno.ts'
import type { AttributeCache } from '../beliefs/attributes.ts'
import type { Attributes, Credential, ReadAnswer } from '../backend.ts'
import type { Clock } from '../../base/clock.ts'
import type { BackendGate } from '../gate.ts'
import type { EarlyRead } from '../objects/handles.ts'
import { isSameObject, type Inode } from '../objects/inode.ts'
import type { FileData, OpenFlags } from '../operations.ts'
import type { FilesystemOptions } from '../options.ts'

/** Larger files gain little, and the bytes are for nothing when the program reads elsewhere first. */
const bytesMax = 16 * 1024
const pageBytes = 4096
/** An answer that waits for its read longer than this is not used. */
const usableMs = 1_000
/** Descriptors whose bytes wait at once. */
const waitingMax = 64
/** Programs that open and do not read stop this: each miss costs a point, each hit brings one back. */
const pointsMax = 16
/** Without points one open in so many tries again. */
const tryAgainEvery = 32
/** inode(7): S_IRUSR, and all three of execute. */
const ownerRead = 0o400
const anyExecute = 0o111

/** It is worth waiting for this answer instead of asking ACCESS. */
export const mayJudge = ({ inode }: EarlyRead): boolean => canJudge(inode.cached.attributes)

/**
 * Servers let a file be read also by its owner, whatever the mode, because it may have been open before a chmod, and by
 * who may execute it (RFC 1813 section 4.4). Where the owner may read anyway and nobody may execute, READ and ACCESS
 * judge alike.
 */
function canJudge (attributes: Attributes | undefined): boolean {
  return attributes !== undefined && (attributes.mode & ownerRead) !== 0 && (attributes.mode & anyExecute) === 0
}

const begin = (inode: Inode, atMs: number): EarlyRead => ({
  inode, version: inode.cached.version, atMs, arrived: undefined, answer: undefined, isOver: false, isGranted: false
})

export class EarlyReads {
  readonly #backend: BackendGate
  readonly #attributes: AttributeCache
  readonly #clock: Clock
  readonly #isWanted: boolean
  /** Oldest first. */
  readonly #waiting = new Set<EarlyRead>()
  #points = pointsMax
  #passed = 0

  constructor (parts: { backend: BackendGate, attributes: AttributeCache, clock: Clock, options: FilesystemOptions }) {
    const { noac, soloWriter, acregminMs } = parts.options
    this.#backend = parts.backend
    this.#attributes = parts.attributes
    this.#clock = parts.clock
    // Where nothing is believed nothing may wait; a solo writer's kernel has the newer bytes.
    this.#isWanted = !noac && !soloWriter && acregminMs > 0
  }

  /** To be called in the turn in which ACCESS is sent, if it is, so that both leave together. */
  begin (inode: Inode, flags: OpenFlags, credential: Credential): EarlyRead | undefined {
    const countBytes = this.#isWanted ? this.#worth(inode, flags) : 0
    if (countBytes === 0 || !this.#mayTry()) return undefined
    const early = begin(inode, this.#clock.nowMs())
    this.#dropOld(early.atMs)
    if (this.#waiting.size >= waitingMax) return undefined
    this.#waiting.add(early)
    const sent = this.#attributes.stamp()
    early.arrived = this.#backend.read({ handle: inode.handle, credential }, 0, countBytes).then((answer) => {
      early.arrived = undefined
      // Whatever is wrong is told to the read itself.
      if (isErrno(answer)) return
      const { attributes } = answer
      if (attributes !== undefined && isSameObject(inode, attributes)) {
        this.#attributes.apply(inode, attributes, sent)
        early.isGranted = canJudge(attributes)
      }
      if (early.isOver) answer.release()
      else early.answer = answer
    })
    return early
  }

  /** The first bytes of the file, or undefined: then the server has to be asked. Ends the early read either way. */
  take (early: EarlyRead, countBytes: number): FileData | undefined {
    const { answer } = early
    this.#end(early)
    early.answer = undefined
    if (answer === undefined) return undefined
    if (!this.#isUsable(early, answer, countBytes)) {
      answer.release()
      return undefined
    }
    this.#points = Math.min(pointsMax, this.#points + 2)
    const data = answer.data.length > countBytes ? answer.data.subarray(0, countBytes) : answer.data
    return { parts: [data], bytes: data.length, release: () => { answer.release() } }
  }

  /** Nobody will read it any more. */
  drop (early: EarlyRead): void {
    if (early.isOver) return
    this.#end(early)
    early.answer?.release()
    early.answer = undefined
  }

  /** How many bytes to ask for; 0 when the file is large or empty, when the kernel has its pages, or when bytes of ours
   * are on their way. */
  #worth (inode: Inode, flags: OpenFlags): number {
    if (!flags.read || flags.write || flags.truncate || flags.direct || flags.execute || inode.kind !== 'file') return 0
    const { cached, file } = inode
    const known = cached.attributes
    if (known === undefined || cached.own !== undefined || (file !== undefined && !file.isEmpty)) return 0
    if (cached.hasPages && cached.pagesToken === known.change) return 0
    return known.sizeBytes > bytesMax ? 0 : Math.ceil(known.sizeBytes / pageBytes) * pageBytes
  }

  #mayTry (): boolean {
    if (this.#points > 0) return true
    this.#passed = (this.#passed + 1) % tryAgainEvery
    return this.#passed === 0
  }

  #isUsable ({ inode, version, atMs }: EarlyRead, { attributes, data, eof }: ReadAnswer, countBytes: number): boolean {
    const { cached, file } = inode
    return cached.version === version && (file === undefined || file.isEmpty) && this.#attributes.isFresh(inode) &&
      this.#clock.nowMs() - atMs < usableMs && attributes?.change === cached.attributes?.change &&
      attributes !== undefined &&
      (eof || data.length >= countBytes)
  }

  #end (early: EarlyRead): void {
    early.isOver = true
    this.#waiting.delete(early)
    this.#points = Math.max(0, this.#points - 1)
  }

  #dropOld (nowMs: number): void {
    for (const early of this.#waiting) {
      if (nowMs - early.atMs < usableMs) return
      this.drop(early)
    }
  }
}
