/**
 * What is known about a volume's server: probed while nothing is heard, never guessed.
 *
 * Owns when to ask and what the last answer means. Asks at most one question at a time: a `hard` mount never gives a
 * call up, so a question to a silent server stays pending, and a second one would only queue behind it. A `soft` one
 * does, and is asked again. Does not know
 * NFS beyond the client's API.
 */
import type { SessionHealth, SessionStatistics } from '../session/control.ts'
import { Errno, errnoName, isErrno } from '../base/errno.ts'
import { VolumeError, harmless } from '../base/errors.ts'
import { monotonicMs } from '../base/deadline.ts'
import type { FilesystemStatistics } from '../fs/backend.ts'
import type { DatedStatistics, NfsClient, ProbeAnswer } from '../nfs/client.ts'
import { staleRoot, type RootVerdict } from '../nfs/root-check.ts'

export type AskedServer = Pick<NfsClient, 'probe' | 'statistics' | 'checkRoot' | 'transport'>

export interface Health { readonly health: SessionHealth, readonly reason: string }

/** An idle mount is asked this often; a busy one hears from its server anyway. */
const idleMs = 15_000
const probeMs = 5000

const encode =
  ({ totalBytes, freeBytes, availableBytes, totalFiles, freeFiles, availableFiles }: FilesystemStatistics): Omit<
    SessionStatistics,
    'stale' | 'ageMs'
  > => ({
    totalBytes: `${totalBytes}`,
    usedBytes: `${totalBytes > freeBytes ? totalBytes - freeBytes : 0n}`,
    availableBytes: `${availableBytes}`,
    totalInodes: `${totalFiles}`,
    usedInodes: `${totalFiles > freeFiles ? totalFiles - freeFiles : 0n}`,
    availableInodes: `${availableFiles}`
  })

export class ServerHealth {
  readonly #server: AskedServer
  readonly #now: () => number
  #last: Health = { health: 'healthy', reason: '' }
  /** When the last question went unanswered; until something is heard again no other is asked beside it. */
  #silentSinceMs: number | undefined
  #statistics: { readonly answer: DatedStatistics, readonly atMs: number } | undefined
  #timer: NodeJS.Timeout | undefined
  #isProbing = false

  constructor (server: AskedServer, now: () => number = monotonicMs) {
    this.#server = server
    this.#now = now
  }

  /** Looks after an idle mount from now on, without keeping the process alive. */
  watch (): void {
    // Figures to fall back on, should the server fall silent before anybody has asked for them.
    if (this.#timer === undefined) this.statistics(probeMs).catch(harmless)
    this.#timer ??= setInterval(() => {
      if (this.#isProbing || (this.#last.health === 'healthy' && this.#server.transport.sinceLastReplyMs() < idleMs)) {
        return
      }
      this.#isProbing = true
      // A probe answers; it does not reject. If it ever did, the next one tells.
      this.probe(probeMs).catch(harmless).finally(() => { this.#isProbing = false })
    }, idleMs)
    this.#timer.unref()
  }

  stop (): void { clearInterval(this.#timer) }

  /** The state as far as it is known now, without asking. */
  get current (): Health {
    if ((this.#server.transport.gauges()['notResponding'] ?? 0) > 0) {
      return {
        health: 'unreachable',
        reason: `the server ${this.#server.transport.serverAddress} does not answer; check the server and the network`
      }
    }
    // Something was heard since the question that stayed open: that trouble is over.
    if (this.#last.health === 'unreachable' && !this.#isSilent()) return { health: 'healthy', reason: '' }
    return this.#last
  }

  async probe (deadlineMs: number): Promise<{ health: SessionHealth, reason: string, ms: number }> {
    if (this.#isWaiting()) return { ...this.#last, ms: 0 }
    const askedMs = this.#now()
    const { health, reason, ms }: ProbeAnswer = await this.#server.probe(deadlineMs)
    this.#last = { health, reason }
    this.#silentSinceMs = health === 'unreachable' ? askedMs : undefined
    return { health, reason, ms }
  }

  /** @throws VolumeError UNAVAILABLE when the server has never told. */
  async statistics (deadlineMs: number): Promise<SessionStatistics> {
    if (!this.#isWaiting()) {
      const askedMs = this.#now()
      const answer = await this.#server.statistics(deadlineMs)
      if (isErrno(answer)) {
        if (answer === Errno.ETIMEDOUT) this.#silentSinceMs = askedMs
        this.#noteRefusal(answer)
        throw new VolumeError('UNAVAILABLE', `the server gives no statistics (${errnoName(answer)})`, {
          remedy: answer === Errno.EOPNOTSUPP ? 'this server has none to give' : 'check the server and the network'
        })
      }
      this.#statistics = { answer, atMs: this.#now() }
      const isSilence = answer.stale && answer.errno === undefined
      this.#silentSinceMs = isSilence ? askedMs : undefined
      this.#noteRefusal(answer.errno)
      if (isSilence && this.#last.health === 'healthy') {
        this.#last = {
          health: 'unreachable',
          reason:
            `the server ${this.#server.transport.serverAddress} did not answer within ${deadlineMs} ms; check the server and the network`
        }
      }
      return { ...encode(answer.statistics), stale: answer.stale, ageMs: answer.ageMs }
    }
    if (this.#statistics === undefined) {
      throw new VolumeError('UNAVAILABLE', 'the server does not answer', { remedy: 'check the server and the network' })
    }
    const { answer, atMs } = this.#statistics
    return { ...encode(answer.statistics), stale: true, ageMs: Math.round(answer.ageMs + this.#now() - atMs) }
  }

  /** Whether a mount that is made now would show the same; what is wrong is the volume's health from now on. */
  async checkRoot (deadlineMs: number): Promise<RootVerdict> {
    const verdict = await this.#server.checkRoot(deadlineMs)
    if (verdict.reason !== '') this.#last = { health: 'stale', reason: verdict.reason }
    return verdict
  }

  /** A server that answers is not silent, and one that does not know the root is not well. */
  #noteRefusal (errno: Errno | undefined): void {
    if (errno === Errno.ESTALE) this.#last = { health: 'stale', reason: staleRoot }
  }

  /** A `soft` mount gives its questions up: then the end of the silence is noticed only by asking again. */
  #isWaiting (): boolean {
    return this.#isSilent() && (this.#server.transport.gauges()['pending'] ?? 0) > 0
  }

  #isSilent (): boolean {
    if (this.#silentSinceMs === undefined) return false
    const sinceMs = this.#server.transport.sinceLastReplyMs()
    const heardAtMs = sinceMs < 0 ? Number.NEGATIVE_INFINITY : this.#now() - sinceMs
    if (heardAtMs <= this.#silentSinceMs) return true
    this.#silentSinceMs = undefined
    return false
  }
}
