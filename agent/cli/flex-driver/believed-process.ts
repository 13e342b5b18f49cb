/**
 * Whether a process is one of the node's own: what it calls itself proves nothing, and anybody may sleep under any
 * name.
 *
 * Owns that judgement: root in every respect, in the namespaces and the root folder of process 1, running a program
 * that root alone can have put there. Starts nothing, and reads nothing whose pages another process could hold back,
 * as those of a command line: that is read afterwards, of those that are believed.
 */
import { readFileSync, readlinkSync, statSync, type Stats } from 'node:fs'
import path from 'node:path'
import { messageOf } from '../../base/errors.ts'
import { RootFolder } from '../../host/root-folder.ts'
import { isTrustedOwner, othersMayWrite } from '../../host/trust.ts'

export interface NodeView {
  /** The node's proc file system as reached from here. */
  readonly proc: string
  /** The node's root folder. */
  readonly root: RootFolder
}

/** Undefined for what is not there, ended meanwhile, or is hidden from us. */
function linkText (file: string): string | undefined {
  try {
    return readlinkSync(file)
  } catch {
    return undefined
  }
}

function textOf (file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

/** The kernel's mark on the name of a program that was replaced while it runs (fs/d_path.c). */
const deletedMark = ' (deleted)'

/** The program's path on the node, or undefined for kernel threads and what is hidden from us. */
export function programOf ({ proc }: Pick<NodeView, 'proc'>, pid: number): string | undefined {
  const text = linkText(`${proc}/${pid}/exe`)
  return text?.endsWith(deletedMark) === true ? text.slice(0, -deletedMark.length) : text
}

/** As it calls itself. */
export const nameOf = ({ proc }: Pick<NodeView, 'proc'>, pid: number): string => textOf(`${proc}/${pid}/comm`).trimEnd()

/** A program that takes its starter's arguments and root's rights says what its starter wants. */
const isSetId = ({ mode }: Stats): boolean => (mode & 0o6000) !== 0

/** A replaced program lies nowhere any more; the kernel still knows the file. */
const programFacts = (folder: RootFolder, name: string, exe: string): Stats => folder.look(name) ?? statSync(exe)

function doubtAboutProgram ({ proc, root }: NodeView, pid: number): string | undefined {
  const program = programOf({ proc }, pid)
  if (program === undefined) return 'its program cannot be seen'
  try {
    const folder = RootFolder.open(path.posix.dirname(program), { base: root })
    try {
      const facts = programFacts(folder, path.posix.basename(program), `${proc}/${pid}/exe`)
      if (!facts.isFile()) return `${program} is no file`
      if (!isTrustedOwner(facts.uid) || othersMayWrite(facts)) {
        return `others than root can write to its program ${program}`
      }
      return isSetId(facts) ? `its program ${program} is set-id` : undefined
    } finally {
      folder.close()
    }
  } catch (error) {
    return `its program ${program}: ${messageOf(error)}`
  }
}

/** Real, effective, saved and file-system uid: proc(5). A set-id program's starter keeps the first. */
function doubtAboutUser ({ proc }: NodeView, pid: number): string | undefined {
  const uids = /^Uid:\s+(.+)$/m.exec(textOf(`${proc}/${pid}/status`))?.[1]?.split(/\s+/) ?? []
  const other = uids.find((uid) => uid !== '0')
  if (uids.length === 0) return 'it cannot be looked at'
  return other === undefined ? undefined : `it runs as uid ${other}`
}

const places = { 'ns/user': 'user namespace', 'ns/mnt': 'mount namespace', 'root': 'root folder' } as const

function doubtAboutPlace ({ proc }: NodeView, pid: number): string | undefined {
  for (const [name, what] of Object.entries(places)) {
    const [its, first] = [linkText(`${proc}/${pid}/${name}`), linkText(`${proc}/1/${name}`)]
    if (its === undefined && first === undefined && name === 'ns/user') continue
    if (its === undefined || first === undefined) return `its ${what} cannot be seen (are we root?)`
    if (its !== first) return `its ${what} is not that of process 1`
  }
  return undefined
}

/** Why a process is not believed to be the node's own; undefined when it is. */
export function doubtAbout (view: NodeView, pid: number): string | undefined {
  return doubtAboutUser(view, pid) ?? doubtAboutPlace(view, pid) ?? doubtAboutProgram(view, pid)
}
