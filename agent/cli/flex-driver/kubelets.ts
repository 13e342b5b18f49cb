/**
 * The kubelets that run on a node, and the plugin folder each was told.
 *
 * Owns finding them, and the node's own view of its processes and files. Does not know what is installed there, nor who
 * is believed (`believed-process.ts`) and what a command line means (`kubelet-arguments.ts`). Starts nothing.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { VolumeError } from '../../base/errors.ts'
import { RootFolder } from '../../host/root-folder.ts'
import { doubtAbout, nameOf, programOf, type NodeView } from './believed-process.ts'
import { mayBeKubelet, toldPluginFolder, type ToldFolder } from './kubelet-arguments.ts'

export interface KubeletFacts {
  readonly pid: number
  /** Its executable's name. */
  readonly program: string
  readonly told: ToldFolder
}

/** A process with a kubelet's name that is not believed to be one. */
export interface Doubted {
  readonly pid: number
  readonly why: string
}

export interface SeenKubelets {
  readonly kubelets: readonly KubeletFacts[]
  readonly doubted: readonly Doubted[]
}

/** In a container this needs the node's /proc: `hostPID: true`, or the node's root with its mounts. */
const procOf = (root: string): string => root === '/' || !existsSync(`${root}/proc/1`) ? '/proc' : `${root}/proc`

/**
 * Ours may be a container's; process 1 has the node's. Without the right to look there ours is all there is, and no
 * process can be compared with process 1, so none is believed.
 */
function openNodeRoot (root: string): RootFolder {
  if (root !== '/') return RootFolder.open(root)
  try {
    return RootFolder.openBase('/proc/1/root/.')
  } catch (error) {
    if (error instanceof VolumeError) throw error
    return RootFolder.openBase('/')
  }
}

/** It may have ended. */
function commandLineOf ({ proc }: NodeView, pid: number): readonly string[] {
  try {
    return readFileSync(`${proc}/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1)
  } catch {
    return []
  }
}

type Seen = { readonly kubelet: KubeletFacts } | { readonly doubted: Doubted } | undefined

function look (view: NodeView, pid: number): Seen {
  const program = path.posix.basename(programOf(view, pid) ?? '')
  if (!mayBeKubelet(program) && !mayBeKubelet(nameOf(view, pid))) return undefined
  const why = doubtAbout(view, pid) ?? (mayBeKubelet(program) ? undefined : `its program is ${program}`)
  if (why !== undefined) return { doubted: { pid, why } }
  const told = toldPluginFolder(program, commandLineOf(view, pid), view.root)
  return told === undefined ? undefined : { kubelet: { pid, program, told } }
}

/** Every kubelet of the node, and who only says so. */
export function findKubelets (root: string): SeenKubelets {
  const proc = procOf(root)
  const node = openNodeRoot(root)
  try {
    const seen = readdirSync(proc).filter((name) => /^\d+$/.test(name)).map((pid) =>
      look({ proc, root: node }, Number(pid))
    )
    return {
      kubelets: seen.flatMap((each) => each !== undefined && 'kubelet' in each ? [each.kubelet] : []),
      doubted: seen.flatMap((each) => each !== undefined && 'doubted' in each ? [each.doubted] : [])
    }
  } finally {
    node.close()
  }
}

/** For people: who only says so, and that it was not believed. */
export const showDoubted = ({ doubted }: SeenKubelets): string =>
  doubted.slice(0, 3).map(({ pid, why }) => `process ${pid} has a kubelet's name and is not believed (${why})`).join(
    ', '
  )
