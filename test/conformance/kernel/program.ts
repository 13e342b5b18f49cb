/**
 * From the tables of ../posix to a program for `conductor.c`, and from its answers back to what may be compared.
 *
 * Owns which words of a rule are sent, and what of an answer is the same on two mounts of two folders: numbers of
 * inodes, devices and the clock's present are not. Knows no right answer and no machine.
 */
import type { Case } from '../posix/judge.ts'

/** One line that is sent. */
export interface Step {
  /** As it is sent, without the name of a new descriptor. */
  readonly call: string
  readonly keepAs: string | undefined
  /** For a line that compares a file's times with those of before: whether they are kept or later. */
  readonly since?: { readonly step: number, readonly fields: readonly string[] }
}

export interface Program { readonly title: string, readonly steps: readonly Step[] }

/** The clock of a server may tick every few milliseconds. */
const tickMs = 12

/** The call of a table's line, without what it should answer. */
function callOf (line: string): Pick<Step, 'call' | 'keepAs'> {
  const plain = line.replace(/ @(?:nfs|ganesha|solo) .*/, '').replace(/ : .*/, '').replace(/ = .*/, '')
  const [call = '', keepAs] = plain.split(' -> ')
  return { call: call.trim(), keepAs: keepAs?.trim() }
}

/** A case, and a listing of what it leaves. */
export function programOf ({ title, lines }: Case): Program {
  const steps: Step[] = []
  const noted = new Map<string, number>()
  for (const line of lines) {
    const [first = '', file = '', ...fields] = line.replace(/ @solo .*/, '').split(' ')
    if (first === 'note') {
      noted.set(file, steps.length)
      steps.push({ call: `root lstat ${file}`, keepAs: undefined }, { call: `root sleep ${tickMs}`, keepAs: undefined })
    } else if (first === 'later' || first === 'kept') {
      steps.push({ call: `root lstat ${file}`, keepAs: undefined, since: { step: noted.get(file) ?? -1, fields } })
    } else steps.push(callOf(line))
  }
  return { title, steps: [...steps, { call: 'root list .', keepAs: undefined }] }
}

/** What the conductor reads; case N is in the folder N. */
export function textOf (programs: readonly Program[]): string {
  const lines = programs.flatMap(({ steps }, index) => [
    `in ${index}`, ...steps.map(({ call, keepAs }) => keepAs === undefined ? call : `${call} -> ${keepAs}`)
  ])
  return `${lines.join('\n')}\n`
}

type Fields = ReadonlyMap<string, string>
const fieldsOf = (answer: string): Fields =>
  new Map(
    answer.split(' ').filter((word) => word.includes('=')).map((word) => {
      const at = word.indexOf('=')
      return [word.slice(0, at), word.slice(at + 1)] as const
    })
  )

/** Times that a program set are far away from now; others only say that they are the present. */
const isSet = (time: string): boolean => {
  const seconds = Number(time.split('.')[0])
  return seconds < 1_700_000_000 || seconds > 2_100_000_000
}

/** Names of fields that differ between two mounts of two folders. */
const ownFields = ['ino', 'dev', 'blocks']

function comparable (answer: string): string {
  // Both clients hide removed files under numbers of their own.
  if (answer.includes('.nfs')) return answer.replaceAll(/\.nfs[0-9a-f]+/g, '.nfs')
  // What is free moves all the time, and some file systems say with that how large they are.
  if (answer.startsWith('ok namemax=')) return answer.replace(/ total=\d+ files=\d+/, '')
  if (!answer.startsWith('ok type=')) return answer
  return answer.split(' ').filter((word) => !ownFields.includes(word.split('=')[0] ?? '')).map((word) => {
    const [name = '', value = ''] = word.split('=')
    return name.endsWith('time') ? `${name}=${isSet(value) ? value : 'now'}` : word
  }).join(' ')
}

/** `kept`, `later` or `earlier`. */
function moved (before: string | undefined, now: string | undefined): string {
  const stamp = (time: string | undefined): bigint => {
    const [seconds = '0', nanoseconds = '0'] = (time ?? '0').split('.')
    return BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds)
  }
  const [was, is] = [stamp(before), stamp(now)]
  return was === is ? 'kept' : is > was ? 'later' : 'earlier'
}

/** What each step answered, in a form that can be compared. */
export function answersOf (program: Program, raw: readonly string[]): readonly string[] {
  return program.steps.map(({ since }, index) => {
    const answer = raw[index] ?? 'no answer'
    if (since === undefined) return comparable(answer)
    const [before, now] = [fieldsOf(raw[since.step] ?? ''), fieldsOf(answer)]
    return since.fields.map((name) => `${name} ${moved(before.get(name), now.get(name))}`).join(', ')
  })
}
