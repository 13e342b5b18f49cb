/**
 * Lists of nfs(5) and mount(8) options: what they say together.
 * Owns splitting, contradictions and the notes for `status`. What each option means is `option-table.ts`; does not know
 * which client will be used, `spec.ts` judges what that one can do.
 */
import { VolumeError } from '../../base/errors.ts'
import type { ClientKind, MountFlags } from '../../base/volume-spec.ts'
import { defaultFlags } from './defaults.ts'
import type { Change, Note, OptionSettings, Setting } from './option-rows.ts'
import { mountOptionNames, mountOptionRow, sloppyWord } from './option-table.ts'
import { suggest } from './suggestion.ts'

export interface ParsedOptions {
  readonly settings: OptionSettings
  /** What is accepted and changes nothing that can be seen, in sentences for `status`, by client. */
  readonly notes: Readonly<Record<ClientKind, readonly string[]>>
}

/** Splits `a,b=c` lists; empty items are tolerated as mount(8) does. */
export function splitOptions (lists: readonly string[]): readonly string[] {
  return lists.flatMap((list) => list.split(',')).map((item) => item.trim()).filter((item) => item !== '')
}

interface Parsed {
  readonly change: Change
  readonly implies?: Change | undefined
  readonly note?: Note | undefined
}

/**
 * Settings of all options together.
 * @throws VolumeError INVALID, field `mountOptions`, naming the option, what is wrong and what to write.
 */
export function parseMountOptions (options: readonly string[]): ParsedOptions {
  const settings: OptionSettings = {}
  const writtenBy = new Map<Setting, string>()
  const notes: Record<ClientKind, string[]> = { fuse: [], kernel: [] }
  const isSloppy = options.includes(sloppyWord)
  for (const option of options) {
    const { change, implies, note } = parseOption(option, isSloppy)
    if (implies !== undefined) Object.assign(settings, withoutThose(implies, writtenBy))
    for (const [name, value] of Object.entries(change) as Array<[Setting, OptionSettings[Setting]]>) {
      requireAgreement(option, writtenBy.get(name), settings[name] === value)
      writtenBy.set(name, option)
      Object.assign(settings, { [name]: value })
    }
    for (const client of ['fuse', 'kernel'] as const) {
      if (note?.[client] !== undefined) notes[client].push(`${shown(option)}: ${note[client]}`)
    }
  }
  return { settings, notes }
}

/** What somebody has written himself stays; mount(8) has it so for options after `user`. */
function withoutThose (implies: Change, writtenBy: ReadonlyMap<Setting, string>): Change {
  return Object.fromEntries(Object.entries(implies).filter(([name]) => !writtenBy.has(name as Setting)))
}

function requireAgreement (option: string, earlier: string | undefined, isSame: boolean): void {
  if (earlier === undefined || isSame) return
  throw refusal(
    option,
    `contradicts "${earlier}"`,
    'keep one of them (the volume\'s attribute and the PV\'s mountOptions are merged)'
  )
}

function parseOption (option: string, isSloppy: boolean): Parsed {
  const equals = option.indexOf('=')
  const name = equals < 0 ? option : option.slice(0, equals)
  /* fstab(5) reserves x-… for other programs, and X-… for mount(8). */
  if (/^x-/i.test(name) || name === sloppyWord) return { change: {} }
  const row = mountOptionRow(name)
  if (row === undefined) {
    const why = 'is not a known option'
    if (isSloppy) return { change: {}, note: { fuse: `${why} (sloppy)`, kernel: `${why} (sloppy)` } }
    throw refusal(option, why, suggest(name, mountOptionNames))
  }
  if (row.value === 'needed' && equals < 0) throw refusal(option, 'needs a value', `write ${name}=VALUE`)
  if (row.value === 'none' && equals >= 0) throw refusal(option, 'takes no value', `write ${name}`)
  const refuse = (why: string, remedy: string): never => { throw refusal(option, why, remedy) }
  const change = row.change(equals < 0 ? '' : option.slice(equals + 1), refuse, option)
  return { change, implies: row.implies, note: row.note }
}

/** Options of other file systems carry secrets, which belong into no message. */
const secretName = /pass|secret|token|cred|key/i

function shown (option: string): string {
  const equals = option.indexOf('=')
  const name = equals < 0 ? option : option.slice(0, equals)
  return (equals >= 0 && secretName.test(name) ? `${name}=…` : option).slice(0, 200)
}

function refusal (option: string, why: string, remedy: string): VolumeError {
  return new VolumeError('INVALID', `mountOptions: ${JSON.stringify(shown(option))} ${why}`, {
    field: 'mountOptions', remedy
  })
}

/** The VFS flags of the settings; nosuid and nodev unless switched off, because a share's owner is not this node's
 * root. */
export function toMountFlags (settings: OptionSettings): MountFlags {
  const usual = defaultFlags
  const not = (setting: boolean | undefined): boolean | undefined => setting === undefined ? undefined : !setting
  return Object.freeze({
    readOnly: settings.readOnly ?? usual.readOnly,
    nosuid: not(settings.suid) ?? usual.nosuid,
    nodev: not(settings.dev) ?? usual.nodev,
    noexec: not(settings.exec) ?? usual.noexec,
    noatime: not(settings.atime) ?? usual.noatime,
    nodiratime: not(settings.diratime) ?? usual.nodiratime,
    relatime: settings.relatime ?? usual.relatime,
    sync: settings.sync ?? usual.sync,
    dirsync: settings.dirsync ?? usual.dirsync
  })
}
