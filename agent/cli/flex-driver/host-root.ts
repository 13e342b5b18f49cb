/**
 * Paths of a node seen from a container that has the node's root folder mounted somewhere.
 *
 * Owns following symbolic links as the node would: an absolute one begins at the node's root, not at ours. Does not
 * know what is looked for.
 */
import { readlinkSync } from 'node:fs'
import { VolumeError } from '../../base/errors.ts'

/** As the kernel does (MAXSYMLINKS). */
const linksMax = 40

function linkTarget (file: string): string | undefined {
  try {
    return readlinkSync(file)
  } catch {
    // Missing, or no link: it is taken as it is.
    return undefined
  }
}

const partsOf = (path: string): string[] => path.split('/').filter((part) => part !== '' && part !== '.')

/** `path` of the node as this process reaches it. `root` is where the node's `/` is here: `/` itself, or for instance
 * `/host`. */
export function onHost (root: string, path: string): string {
  if (root === '/') return path
  const rest = partsOf(path)
  let done: string[] = []
  for (let links = 0; rest.length > 0;) {
    const part = rest.shift() ?? ''
    if (part === '..') {
      done.pop()
      continue
    }
    const target = linkTarget(`${root}/${[...done, part].join('/')}`)
    if (target === undefined) {
      done.push(part)
      continue
    }
    if (++links > linksMax) {
      throw new VolumeError('INVALID', `${path}: too many symbolic links below ${root}`, { field: '--host-root' })
    }
    if (target.startsWith('/')) done = []
    rest.unshift(...partsOf(target))
  }
  return `${root}/${done.join('/')}`
}
