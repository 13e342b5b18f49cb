/**
 * What the operator agrees to, as it may be said. Owns the two that may come from the environment, because the Flex
 * door has no options of its own; kubelet's environment is root's to set. Does not know what they allow.
 */
import { VolumeError } from '../base/errors.ts'

type Environment = Readonly<Record<string, string | undefined>>

export interface ConsentOptions {
  readonly allowSuidDev: boolean
  readonly trustFlexOptions: boolean
}

const rows = {
  allowSuidDev: { variable: 'VOLBRIDGE_ALLOW_SUID_DEV', flag: '--allow-suid-dev' },
  trustFlexOptions: { variable: 'VOLBRIDGE_TRUST_FLEX_OPTIONS', flag: '--trust-flex-options' }
} as const satisfies Record<keyof ConsentOptions, { readonly variable: string, readonly flag: string }>

const words: ReadonlyMap<string, boolean> = new Map([['', false], ['0', false], ['1', true]])

function isSaid (environment: Environment, variable: string): boolean {
  const told = environment[variable] ?? ''
  const said = words.get(told)
  if (said !== undefined) return said
  throw new VolumeError('INVALID', `${variable}: ${JSON.stringify(told.slice(0, 100))} is neither 1 nor 0`, {
    field: variable, remedy: 'give 1 to agree, or leave it out'
  })
}

/** The options, or else the environment. @throws VolumeError INVALID naming the variable. */
export function chooseConsents (options: ConsentOptions, environment: Environment): ConsentOptions {
  return {
    allowSuidDev: options.allowSuidDev || isSaid(environment, rows.allowSuidDev.variable),
    trustFlexOptions: options.trustFlexOptions || isSaid(environment, rows.trustFlexOptions.variable)
  }
}

/** The same for an agent that is to be started. @throws VolumeError INVALID naming the variable. */
export function consentArguments (environment: Environment): readonly string[] {
  return Object.values(rows).filter(({ variable }) => isSaid(environment, variable)).map(({ flag }) => flag)
}
