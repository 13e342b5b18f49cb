/**
 * What a row of the option table can say: honoured, accepted with a note, or refused with a reason.
 * Owns the kinds of rows and the settings that they change. Does not know any option's name.
 */
import type { ClientKind, LookupCache, NfsVersion, Recovery } from '../../base/volume-spec.ts'
import { suggest } from './suggestion.ts'

/** Every setting an option can change. Two words that change one setting to different values contradict each other. */
export interface OptionSettings {
  version?: NfsVersion
  minorVersion?: 0 | 1 | 2
  port?: number
  mountPort?: number
  proto?: 'tcp' | 'tcp6' | 'udp' | 'udp6' | 'rdma'
  rsizeBytes?: number
  wsizeBytes?: number
  nconnect?: number
  recovery?: Recovery
  timeoDeciseconds?: number
  retrans?: number
  acregminSeconds?: number
  acregmaxSeconds?: number
  acdirminSeconds?: number
  acdirmaxSeconds?: number
  noac?: boolean
  lookupCache?: LookupCache
  rdirplus?: boolean
  locks?: 'local' | 'remote'
  softReval?: boolean
  acl?: boolean
  resvport?: boolean
  cto?: boolean
  /** As nfs(5) spells it: one flavour, or several with colons between. */
  sec?: string
  retryMinutes?: number
  readOnly?: boolean
  suid?: boolean
  dev?: boolean
  exec?: boolean
  atime?: boolean
  diratime?: boolean
  relatime?: boolean
  sync?: boolean
  dirsync?: boolean
  /* What the kernel's client alone is told, in its own words. */
  kernelFsc?: string
  kernelWrite?: string
  kernelMaxConnect?: string
  kernelMigration?: string
  kernelTrunkDiscovery?: string
  kernelClientAddr?: string
  kernelAlignWrite?: string
  kernelNetErrors?: string
}
export type Setting = keyof OptionSettings
export type KernelSetting = Extract<Setting, `kernel${string}`>
export type Change = Partial<Record<Setting, OptionSettings[Setting]>>

/** Ends the parsing of an option with an error that names it. */
export type Refuse = (why: string, remedy: string) => never
/** Why an option that a client accepts changes nothing that a program could see; for `status`. */
export type Note = Readonly<Partial<Record<ClientKind, string>>>

export interface OptionRow {
  /** Whether the option is written `name=value`. */
  readonly value: 'none' | 'needed' | 'optional'
  /** `value` is empty where there is none; `option` is the whole of it as it was written. */
  readonly change: (value: string, refuse: Refuse, option: string) => Change
  /** Set unless another option says otherwise after it, as mount(8) has it for `user`. */
  readonly implies?: Change
  readonly note?: Note
}

const nothing = (): Change => ({})

export const word = (change: Change): OptionRow => ({ value: 'none', change: () => change })

/** For mount(8), boot scripts or nobody at all: there is nothing that a user of the volume would want to know. */
export const silent: OptionRow = { value: 'optional', change: nothing }

/** Accepted by both clients, and nothing changes. */
export const noted = (why: string, value: OptionRow['value'] = 'none'): OptionRow => ({
  value, change: nothing, note: { fuse: why, kernel: why }
})

/** Told to the kernel's client as it is written; nothing changes for the own one. */
export const forKernel = (setting: KernelSetting, why: string, check?: RegExp): OptionRow => ({
  value: check === undefined ? 'optional' : 'needed',
  change: (value, refuse, option) => {
    if (check !== undefined && !check.test(value)) refuse('is not a known value', 'nfs(5) lists the values')
    return { [setting]: option }
  },
  note: { fuse: why }
})

export const refused = (why: string, remedy: string): OptionRow => ({
  value: 'optional', change: (_value, refuse) => refuse(why, remedy)
})

export const number = (min: number, max: number, toChange: (value: number) => Change): OptionRow => ({
  value: 'needed',
  change: (text, refuse) => {
    const value = Number(text)
    if (!/^\d{1,10}$/.test(text) || value < min || value > max) {
      refuse(`is not a whole number from ${min} to ${max}`, 'correct the number')
    }
    return toChange(value)
  }
})

/** One of some values, each with what it changes. */
export const choice = (choices: Readonly<Record<string, Change>>): OptionRow => ({
  value: 'needed',
  change: (text, refuse) => {
    const change = Object.hasOwn(choices, text) ? choices[text] : undefined
    return change ?? refuse('is not a known value', suggest(text, Object.keys(choices)))
  }
})
