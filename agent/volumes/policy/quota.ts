/**
 * How many volumes a pod and the node may have. Owns the count, taken in the tick of the check. Does not know what is
 * mounted: the table says what is meant, and what is on its way into it is remembered here.
 *
 * A session's memory is the node's and not the pod's (nothing of kubelet's accounting sees it), so this is its only
 * bound.
 */
import type { AbsolutePath, VolumeId } from '../../base/brands.ts'
import { ephemeralVolumesPerPodMax, volumesPerPodMax } from '../../base/limits.ts'
import type { VolumeSpec } from '../../base/volume-spec.ts'
import { PolicyRefusal } from './policy.ts'
import type { VolumeTable } from '../records/table.ts'

export interface NodeLimits {
  /** Volumes of all doors. */
  readonly volumesMax: number
  /** Inline volumes among them. */
  readonly ephemeralMax: number
}

/** A volume at a path, as it is meant. */
export interface Wanted {
  readonly volume: VolumeId
  readonly path: AbsolutePath
  readonly spec: VolumeSpec
}

type Counted = Omit<Wanted, 'spec'> & { readonly spec: VolumeSpec | undefined }

const isInline = (spec: VolumeSpec | undefined): boolean => spec?.restraint === 'anonymous'

/** The pod's uid, as kubelet spells it in every target (k8s pkg/kubelet/kubelet_getters.go). */
export function podUidOf (path: string): string | undefined {
  return /\/pods\/([^/]+)\/volumes\/[^/]+\//.exec(path)?.[1]
}

export class Quota {
  readonly #table: VolumeTable
  readonly #limits: NodeLimits
  readonly #coming = new Set<Wanted>()

  constructor (table: VolumeTable, limits: NodeLimits) {
    this.#table = table
    this.#limits = limits
  }

  /**
   * Counts the volume until the answer is called: by then it is in the table, or came to nothing. A repeat costs
   * nothing. @throws PolicyRefusal EXHAUSTED
   */
  take (wanted: Wanted): () => void {
    const all = this.#all()
    if (!all.some(({ volume }) => volume === wanted.volume)) this.#checkNode(wanted, all)
    if (!all.some(({ path }) => path === wanted.path)) this.#checkPod(wanted, all)
    this.#coming.add(wanted)
    return () => { this.#coming.delete(wanted) }
  }

  #all (): readonly Counted[] {
    const meant = this.#table.binds().map(({ volume, path, key }) => ({
      volume, path, spec: this.#table.mount(key)?.spec
    }))
    return [...meant, ...this.#coming]
  }

  #checkNode ({ spec }: Wanted, all: readonly Counted[]): void {
    const { volumesMax, ephemeralMax } = this.#limits
    const volumes = new Set(all.map(({ volume }) => volume)).size
    if (volumes >= volumesMax) {
      refuse(
        '--max-volumes',
        `the node has ${volumes} volumes, at most ${volumesMax} are allowed`,
        'run the pod on another node, or start the agent with a larger --max-volumes'
      )
    }
    const inline = new Set(all.filter((one) => isInline(one.spec)).map(({ volume }) => volume)).size
    if (isInline(spec) && inline >= ephemeralMax) {
      refuse(
        '--ephemeral-max',
        `the node has ${inline} inline volumes, at most ${ephemeralMax} are allowed`,
        'run the pod on another node, use a PersistentVolume, or start the agent with a larger --ephemeral-max'
      )
    }
  }

  #checkPod ({ path, spec }: Wanted, all: readonly Counted[]): void {
    const pod = podUidOf(path)
    if (pod === undefined) return
    const own = all.filter((one) => podUidOf(one.path) === pod)
    const volumes = new Set(own.map((one) => one.path)).size
    if (volumes >= volumesPerPodMax) {
      refuse(
        'volumes per pod',
        `the pod has ${volumes} volumes of this driver, at most ${volumesPerPodMax} are allowed`,
        'use fewer, with subPath for the folders of one'
      )
    }
    const inline = new Set(own.filter((one) => isInline(one.spec)).map((one) => one.path)).size
    if (isInline(spec) && inline >= ephemeralVolumesPerPodMax) {
      refuse(
        'inline volumes per pod',
        `the pod has ${inline} inline volumes, at most ${ephemeralVolumesPerPodMax} are allowed`,
        'use fewer, with subPath for the folders of one'
      )
    }
  }
}

function refuse (rule: string, why: string, remedy: string): never {
  throw new PolicyRefusal(rule, 'EXHAUSTED', `volume_id: ${why}`, { field: 'volume_id', remedy })
}
