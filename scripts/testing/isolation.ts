/**
 * A private view of mounts and processes: nothing that is started or mounted inside outlives it.
 *
 * Owns how a command gets one, who is in it and what they wait for, and its end. Does not know what runs inside.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

/** The command line that runs `command` in mount and pid namespaces of its own. Killing its process ends all that is
 * inside. */
export const isolated = (command: readonly string[]): readonly string[] => [
  'unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc', '--propagation', 'private',
  // bash is process 1 and reaps what is orphaned there; AVA would leave zombies, which look like processes that do not
  // end.
  'bash', '-c', '"$@"; exit $?', 'bash', ...command
]

/** A process may end while it is looked at. */
function look (read: () => string): string {
  try { return read() } catch { return '' }
}

/**
 * One line for each process in the namespace that process `pid`'s children live in: pid, state, the kernel function it
 * waits in, command line; and the kernel's stack of those that no signal wakes. Reads only what never waits for the
 * process itself.
 */
export function whoIsInside (pid: number): readonly string[] {
  const namespace = look(() => readlinkSync(`/proc/${pid}/ns/pid_for_children`))
  if (namespace === '') return []
  return readdirSync('/proc')
    .filter((name) =>
      /^\d+$/.test(name) && Number(name) !== pid && look(() => readlinkSync(`/proc/${name}/ns/pid`)) === namespace
    )
    .flatMap((name) => {
      const state = /\) (\S)/.exec(look(() => readFileSync(`/proc/${name}/stat`, 'utf8')))?.[1] ?? '?'
      // Reading the command line takes the memory lock of the process, which one stuck in a page fault holds; its name
      // is free.
      const command = state === 'D'
        ? look(() => readFileSync(`/proc/${name}/comm`, 'utf8'))
        : look(() => readFileSync(`/proc/${name}/cmdline`, 'utf8')).replaceAll('\0', ' ')
      const stack = state === 'D'
        ? look(() => readFileSync(`/proc/${name}/stack`, 'utf8')).trim().split('\n').map((line) =>
          `        ${line.replace(/^\[<0>\] /, '')}`
        )
        : []
      return [
        `${name} ${state} ${look(() => readFileSync(`/proc/${name}/wchan`, 'utf8')) || '-'} ${command.trim().slice(0, 160)}`,
        ...stack
      ]
    })
}
