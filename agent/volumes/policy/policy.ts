/**
 * Who may ask for what: the rules for the words of a pod's author, of an administrator, and of this node's root.
 *
 * Owns the rules, one function for each who asks, and the words of a refusal. Does not know how it was found out who
 * asks (`agent/csi/asking.ts`), nor what a volume costs (`quota.ts`).
 */
import { VolumeError, type VolumeErrorCode } from '../../base/errors.ts'
import { showSource, type VolumeSpec } from '../../base/volume-spec.ts'
import { ruleFor, type AllowRule } from './allow-list.ts'

/**
 * Whose words the attributes are. `ephemeral`: the pod's author's, surely (inline CSI). `flex`: the pod's author's or
 * an administrator's, nobody can tell. `persistent`: an administrator's, who made the PersistentVolume or its class.
 * `hand`: root's, on this node.
 */
export type Asker = 'ephemeral' | 'flex' | 'persistent' | 'hand'

/** What the node's operator has agreed to; nothing unless said. */
export interface Consents {
  /** `suid` and `dev` as mount options of persistent and Flex volumes. */
  readonly allowSuidDev: boolean
  /** Options of Flex volumes are an administrator's: pods cannot name a flexVolume themselves. */
  readonly trustFlexOptions: boolean
  /** What inline volumes may name; with no rule there are none. */
  readonly ephemeral: readonly AllowRule[]
}

export const noConsents: Consents = { allowSuidDev: false, trustFlexOptions: false, ephemeral: [] }

export interface Question {
  readonly asker: Asker
  readonly spec: VolumeSpec
  /** Of the pod, as far as kubelet itself has said it. */
  readonly namespace: string | undefined
}

/** What is mounted, and the rule that allows it, for the log. */
export interface Permission {
  readonly spec: VolumeSpec
  readonly rule: string
}

/** Not allowed, by a rule that the log names. */
export class PolicyRefusal extends VolumeError {
  readonly rule: string
  constructor (rule: string, code: VolumeErrorCode, message: string, facts: { field: string, remedy: string }) {
    super(code, message, facts)
    this.rule = rule
  }
}

function refuse (rule: string, field: string, why: string, remedy: string): never {
  throw new PolicyRefusal(rule, 'DENIED', `${field}: ${why}`, { field, remedy })
}

const suidDev = '--allow-suid-dev'
const suidDevRemedy = `leave it out, or start the agent with ${suidDev} (VOLBRIDGE_ALLOW_SUID_DEV=1)`

/** The mount options of a volume that reach beyond its files. */
function powersOf ({ flags }: VolumeSpec): readonly string[] {
  return [...flags.nosuid ? [] : ['suid'], ...flags.nodev ? [] : ['dev']]
}

const whyNot = (power: string): string =>
  power === 'suid'
    ? '"suid" lets a program of the share run as any user of this node'
    : '"dev" lets a device file of the share open any device of this node'

/** @throws PolicyRefusal. The rule that allows them, or nothing when none is asked for. */
function withSuidDev (spec: VolumeSpec, consents: Consents, rule: string): string {
  const [power] = powersOf(spec)
  if (power === undefined) return rule
  if (!consents.allowSuidDev) refuse(suidDev, 'mountOptions', whyNot(power), suidDevRemedy)
  return `${rule}, ${suidDev}`
}

const ephemeralAllow = '--ephemeral-allow'

/** What an inline volume never gets, whatever the agent was told. */
function refuseBeyondInline (spec: VolumeSpec): void {
  const never = 'inline volume'
  const [power] = powersOf(spec)
  const instead = 'leave it out, or use a PersistentVolume'
  if (power !== undefined) refuse(never, 'mountOptions', `${whyNot(power)}, and is not for inline volumes`, instead)
  if (spec.mountPermissions !== undefined) {
    refuse(never, 'mountPermissions', 'a mode would be set with root\'s rights, and is not for inline volumes', instead)
  }
  if (spec.target.identity !== undefined) {
    refuse(never, 'identity', 'a pod\'s author would choose whose rights it has on the server', instead)
  }
  if (spec.client === 'kernel') {
    refuse(
      never,
      'client',
      `inline volumes are not mounted by the kernel's client (${spec.clientReason})`,
      'use client=fuse with vers=3, or a PersistentVolume'
    )
  }
}

function judgeEphemeral ({ spec, namespace }: Question, { ephemeral }: Consents): Permission {
  if (ephemeral.length === 0) {
    refuse(
      ephemeralAllow,
      'volume_context',
      'inline (ephemeral) volumes are switched off on this node',
      `use a PersistentVolume, or start the agent with ${ephemeralAllow} SERVER[:/SHARE]`
    )
  }
  refuseBeyondInline(spec)
  const rule = ruleFor(ephemeral, spec.target, namespace)
  if (rule !== undefined) {
    return { spec: Object.freeze({ ...spec, restraint: 'anonymous' }), rule: `${ephemeralAllow} ${rule.text}` }
  }
  return refuse(
    ephemeralAllow,
    'server',
    `${JSON.stringify(showSource(spec))} is not allowed for inline volumes${namespace === undefined ? '' : ` of the namespace "${namespace}"`}`,
    `use a share that is, by its own name and with subDir for what lies below; the operator allows more with ${ephemeralAllow}`
  )
}

const trustFlex = '--trust-flex-options'

function judgeFlex ({ spec }: Question, consents: Consents): Permission {
  const rule = withSuidDev(spec, consents, consents.trustFlexOptions ? `flexVolume, ${trustFlex}` : 'flexVolume')
  if (consents.trustFlexOptions) return { spec, rule }
  const remedy =
    `leave it out, or start the agent with ${trustFlex} (VOLBRIDGE_TRUST_FLEX_OPTIONS=1) where pods cannot name flexVolumes themselves`
  if (spec.mountPermissions !== undefined) {
    const why = 'a mode would be set with root\'s rights, and a flexVolume may be a pod\'s own'
    refuse(trustFlex, 'mountPermissions', why, remedy)
  }
  if (spec.target.identity !== undefined) {
    const why = 'whoever writes it chooses whose rights a pod has on the server, and a flexVolume may be a pod\'s own'
    refuse(trustFlex, 'identity', why, remedy)
  }
  return { spec: spec.mountGroup === undefined ? spec : Object.freeze({ ...spec, restraint: 'no-changes' }), rule }
}

const judges = {
  ephemeral: judgeEphemeral,
  flex: judgeFlex,
  persistent: ({ spec }, consents) => ({ spec, rule: withSuidDev(spec, consents, 'persistent volume') }),
  /* Whoever reaches the agent's socket by hand is root here, and could mount it without us. */
  hand: ({ spec }) => ({ spec, rule: 'root on this node' })
} as const satisfies Record<Asker, (question: Question, consents: Consents) => Permission>

/** @throws PolicyRefusal DENIED naming field, reason and remedy. */
export function judge (question: Question, consents: Consents): Permission {
  return judges[question.asker](question, consents)
}

/** Whether whoever reads this volume's errors may be somebody who must not learn what the node's network looks like. */
export function isForAuthors (asker: Asker, { trustFlexOptions }: Consents): boolean {
  return asker === 'ephemeral' || (asker === 'flex' && !trustFlexOptions)
}
