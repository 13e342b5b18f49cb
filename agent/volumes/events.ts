/**
 * What the engine has to say beside its answers. Owns the list of events; observers wrap the engine and turn them into
 * log lines and metrics. Does not know loggers.
 */
import type { StageKey, VolumeId } from '../base/brands.ts'

export type VolumeEvent =
  | { readonly kind: 'journal-damaged', readonly file: string, readonly reason: string }
  | {
    readonly kind: 'recovered'
    readonly key: StageKey | undefined
    readonly path: string | undefined
    readonly deed: string
    readonly reason: string
  }
  | { readonly kind: 'mount-started', readonly key: StageKey, readonly source: string, readonly ms: number }
  | { readonly kind: 'mount-ended', readonly key: StageKey, readonly source: string }
  | { readonly kind: 'mount-died', readonly key: StageKey, readonly source: string, readonly reason: string }
  /** Other mounts of the file system are left (a subPath, a container): the shared mount stays until they are gone. */
  | {
    readonly kind: 'mount-lingers'
    readonly key: StageKey
    readonly source: string
    readonly others: readonly string[]
  }
  /** Bytes that write() acknowledged and that could not be sent before the mount had to go. */
  | { readonly kind: 'data-lost', readonly key: StageKey, readonly source: string, readonly lostBytes: number }
  | { readonly kind: 'undo-failed', readonly volume: VolumeId, readonly path: string, readonly reason: string }
  /** A dead mount at `path` is covered by a living one. */
  | { readonly kind: 'healed', readonly key: StageKey, readonly path: string }
  | { readonly kind: 'heal-failed', readonly key: StageKey, readonly reason: string, readonly tries: number }
  /** The folder of a volume was made anew on the server: new pods get a mount of their own. */
  | { readonly kind: 'root-changed', readonly key: StageKey, readonly source: string, readonly reason: string }
  /** Something that is to be taken away is still there; it is tried again. */
  | {
    readonly kind: 'end-failed'
    readonly key: StageKey
    readonly path: string
    readonly reason: string
    readonly tries: number
  }
  | { readonly kind: 'note', readonly key: StageKey, readonly text: string }

export type VolumeEvents = (event: VolumeEvent) => void
