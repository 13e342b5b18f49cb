/**
 * Staging and publishing with the policy before them, a line of the audit for each, and no more in an answer than
 * whoever reads it may know.
 *
 * Owns that order: who asks → what is asked → may they → the deed. What is there already stays as it is when the rules
 * are other ones now: kubelet asks again for every volume of every pod when it starts, and a pod whose volume is
 * refused then gets no container restarted any more. Does not know the rules
 * (`agent/volumes/policy/policy.ts`) or where the audit is written.
 */
import { VolumeError, messageOf } from '../base/errors.ts'
import type { VolumeSpec } from '../base/volume-spec.ts'
import type { Door } from '../volumes/operations.ts'
import {
  PolicyRefusal, isForAuthors, judge, type Asker, type Consents, type Permission, type Question
} from '../volumes/policy/policy.ts'
import { requireVouched, type AskingPod } from './asking.ts'
import { discreetly } from './discretion.ts'

/** One mount that was asked for, before it is tried, or refused. */
export interface AuditEntry {
  readonly call: 'stage' | 'publish'
  readonly door: Door
  readonly asker: Asker
  readonly pod: AskingPod
  readonly volume: string
  readonly path: string
  readonly outcome: 'allowed' | 'refused'
  /** What allowed or refused it. */
  readonly rule: string
  /** Absent when what was asked for makes no sense. */
  readonly spec: VolumeSpec | undefined
  readonly reason?: string
}
export type Audit = (entry: AuditEntry) => void

export interface AdmissionParts {
  readonly consents: Consents
  readonly audit: Audit
}

/** Who asks, and for what; `spec` is found out by `decode`. */
export interface Asked<R> extends Pick<AuditEntry, 'call' | 'door' | 'asker' | 'pod' | 'volume' | 'path'> {
  readonly decode: () => R
  /** Whether it is there already, just as it is asked for. */
  readonly isThere: (request: R) => Promise<boolean>
}

/** Of what is asked for again and is there: nothing is done. */
const asItIs = 'as it is'

export class Admission {
  readonly #consents: Consents
  readonly #audit: Audit

  constructor ({ consents, audit }: AdmissionParts) {
    this.#consents = consents
    this.#audit = audit
  }

  /** Decodes, judges and does. The deed gets the volume as it is allowed. @throws what any of them throws. */
  async admit<R extends { readonly spec: VolumeSpec }> (
    asked: Asked<R>,
    deed: (request: R) => Promise<void>
  ): Promise<void> {
    const { decode, isThere, ...who } = asked
    let spec: VolumeSpec | undefined
    try {
      const request = decode()
      spec = request.spec
      requireVouched(who.asker, who.pod)
      const namespace = who.pod.isVouched ? who.pod.namespace : undefined
      const permission = await this.#judge({ asker: who.asker, spec, namespace }, async () => await isThere(request))
      spec = permission.spec
      this.#audit({ ...who, outcome: 'allowed', rule: permission.rule, spec })
      if (permission.rule === asItIs) return
      await this.#do(who.asker, spec, async () => { await deed({ ...request, spec: permission.spec }) })
    } catch (error) {
      const rule = ruleOf(error, spec)
      if (rule !== undefined) this.#audit({ ...who, outcome: 'refused', rule, spec, reason: messageOf(error) })
      throw error
    }
  }

  async #judge (question: Question, isThere: () => Promise<boolean>): Promise<Permission> {
    const judged = judgement(question, this.#consents)
    const isLess = judged instanceof PolicyRefusal || judged.spec.restraint !== undefined
    if (isLess && await isThere()) return { spec: question.spec, rule: asItIs }
    if (judged instanceof PolicyRefusal) throw judged
    return judged
  }

  async #do (asker: Asker, spec: VolumeSpec, deed: () => Promise<void>): Promise<void> {
    await (isForAuthors(asker, this.#consents) ? discreetly(spec, deed) : deed())
  }
}

function judgement (question: Question, consents: Consents): Permission | PolicyRefusal {
  try {
    return judge(question, consents)
  } catch (error) {
    if (error instanceof PolicyRefusal) return error
    throw error
  }
}

/** What refused it, or nothing when it was tried and failed: that is told by the line of the call. */
function ruleOf (error: unknown, spec: VolumeSpec | undefined): string | undefined {
  if (error instanceof PolicyRefusal) return error.rule
  return spec === undefined && error instanceof VolumeError ? 'request' : undefined
}
