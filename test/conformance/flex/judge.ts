/**
 * What a case is given and how it says no.
 *
 * Owns the words of a verdict. Does not know cases.
 */
import { existsSync, readdirSync } from 'node:fs'
import type { Options, Outcome, Plugin } from './kubelet.ts'
import { mountsAt } from './kubelet.ts'

export interface Bench {
  readonly plugin: Plugin
  /** A folder of this run, empty at its start. */
  readonly scratch: string
  /** Options of a share that can be mounted and written, or undefined: cases that mount are skipped. */
  readonly options: Options | undefined
  /** Options of a mount that must fail quickly. */
  readonly failing: Options | undefined
  /** Installs the driver into a plugin folder; cases of the prober need it. */
  readonly install: ((folder: string) => Promise<void>) | undefined
  /** How many pods "at once" are. */
  readonly crowd: number
}

export interface Case {
  readonly title: string
  readonly needs: readonly ('options' | 'failing' | 'install')[]
  readonly run: (bench: Bench) => Promise<void>
}

export class Refusal extends Error {
  override readonly name = 'Refusal'
}

export function require (condition: boolean, otherwise: string): asserts condition {
  if (!condition) throw new Refusal(otherwise)
}

const shown = ({ kind, exitCode, signal, output }: Outcome): string =>
  `${kind}, exit ${exitCode ?? signal ?? '?'}: ${JSON.stringify(output.slice(0, 500))}`

/** Whatever the answer is: one JSON value, exit code 0 (else kubelet logs the arguments with their secrets), an end. */
export function requireMannered (outcome: Outcome, what: string): void {
  require(outcome.answer !== undefined && outcome.kind !== 'hang', `${what}: ${shown(outcome)}`)
  require(
    outcome.exitCode === 0,
    `${what}: exit code ${outcome.exitCode ?? outcome.signal ?? '?'} makes kubelet log the arguments`
  )
  require(
    ['Success', 'Failure', 'Not supported'].includes(outcome.answer.status),
    `${what}: kubelet knows no status ${JSON.stringify(outcome.answer.status)}`
  )
}

export function requireSuccess (outcome: Outcome | string, what: string): void {
  require(typeof outcome !== 'string', `${what}: the driver was not called (${String(outcome)})`)
  requireMannered(outcome as Outcome, what)
  require((outcome as Outcome).kind === 'success', `${what}: ${shown(outcome as Outcome)}`)
}

export function requireFailure (outcome: Outcome | string, what: string): void {
  require(typeof outcome !== 'string', `${what}: the driver was not called (${String(outcome)})`)
  requireMannered(outcome as Outcome, what)
  require((outcome as Outcome).kind === 'failure', `${what}: ${shown(outcome as Outcome)}`)
  require(((outcome as Outcome).answer?.message ?? '') !== '', `${what}: a failure without a message helps nobody`)
}

/** As kubelet needs a target after a failure: there, empty, no mount. */
export function requireBare (target: string, what: string): void {
  require(mountsAt(target) === 0, `${what}: a mount is left at ${target}`)
  if (existsSync(target)) require(readdirSync(target).length === 0, `${what}: ${target} is not empty`)
}
