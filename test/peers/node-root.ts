/**
 * A node's root folder as an installer in a container finds it: files, and processes as its proc file system shows
 * them.
 *
 * Owns what proc(5) says of a process that is asked who it is. Does not know who is believed.
 */
import { chmodSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'

export interface ShownProcess {
  readonly argv: readonly string[]
  /** Its program on the node, made unless it is there: `/usr/bin/` and the name in argv unless given. */
  readonly program?: string
  readonly programMode?: number
  /** As it calls itself; the program's name unless given. */
  readonly name?: string
  readonly uid?: number
  readonly mountNamespace?: number
  readonly userNamespace?: number
  readonly root?: string
}

function link (target: string, file: string): void {
  rmSync(file, { force: true })
  symlinkSync(target, file)
}

export const programOfShown = ({ argv, program }: ShownProcess): string =>
  program ?? `/usr/bin/${path.posix.basename(argv[0] ?? '')}`

function makeProgram (root: string, file: string, mode: number): void {
  const at = path.join(root, file)
  mkdirSync(path.dirname(at), { recursive: true })
  writeFileSync(at, '')
  chmodSync(at, mode)
}

/** Process 1 is made as well. Namespaces are numbers; 1 is the node's. */
export function showProcess (root: string, pid: number, process: ShownProcess): void {
  if (pid !== 1) showProcess(root, 1, { argv: ['/sbin/init'] })
  const { argv, name, uid = 0, mountNamespace = 1, userNamespace = 1 } = process
  const [folder, program] = [path.join(root, 'proc', `${pid}`), programOfShown(process)]
  mkdirSync(path.join(folder, 'ns'), { recursive: true })
  writeFileSync(path.join(folder, 'cmdline'), argv.map((arg) => `${arg}\0`).join(''), 'latin1')
  writeFileSync(path.join(folder, 'comm'), `${(name ?? path.posix.basename(program)).slice(0, 15)}\n`)
  writeFileSync(path.join(folder, 'status'), `Name:\tx\nUid:\t${uid}\t${uid}\t${uid}\t${uid}\nGid:\t0\t0\t0\t0\n`)
  link(`mnt:[${mountNamespace}]`, path.join(folder, 'ns/mnt'))
  link(`user:[${userNamespace}]`, path.join(folder, 'ns/user'))
  link(process.root ?? '/', path.join(folder, 'root'))
  link(program, path.join(folder, 'exe'))
  makeProgram(root, program, process.programMode ?? 0o755)
}
