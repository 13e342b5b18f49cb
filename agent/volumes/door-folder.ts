/**
 * Where kubelet's paths lie: in its own folder, once every link on the way is followed.
 *
 * Owns comparing what paths resolve to, component by component. Does not know which folder it is, nor how the path is
 * used; the door has compared the words before. What was resolved is remembered: it is looked up anew before a refusal.
 */
import type { AbsolutePath } from '../base/brands.ts'
import { VolumeError } from '../base/errors.ts'
import type { VolumeHost } from './volume-host.ts'

const partsOf = (path: string): readonly string[] => path.split('/').filter((part) => part !== '')

/** Whether `path` lies in `folder`, and is not the folder itself. Both are resolved. */
export function isBelow (path: string, folder: string): boolean {
  const [below, above] = [partsOf(path), partsOf(folder)]
  return below.length > above.length && above.every((part, at) => below[at] === part)
}

export class DoorFolder {
  readonly #host: VolumeHost
  readonly #folder: string
  #resolved: string | undefined

  constructor (host: VolumeHost, folder: string) {
    this.#host = host
    this.#folder = folder
  }

  /** @throws VolumeError INVALID when the resolved path lies elsewhere. */
  async require (resolved: string, given: AbsolutePath, field: string): Promise<void> {
    if (this.#resolved !== undefined && isBelow(resolved, this.#resolved)) return
    this.#resolved = (await this.#host.inspect(this.#folder)).path
    if (isBelow(resolved, this.#resolved)) return
    throw new VolumeError(
      'INVALID',
      `${field}: ${JSON.stringify(given)} leads to ${JSON.stringify(resolved)}, which is not in kubelet's folder ${this.#resolved}`,
      { field, remedy: 'start the agent with kubelet\'s --root-dir as --kubelet-dir' }
    )
  }
}
