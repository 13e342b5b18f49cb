/**
 * All volumes of this node as the engine means them. Owns the memory image of the journal and the order "durable first, then visible".
 * Does not know what is really mounted.
 */
import type { AbsolutePath, StageKey, VolumeId } from '../base/brands.ts'
import type { Journal } from './journal.ts'
import { bindRecordId, mountRecordId, type BindRecord, type JournalRecord, type MountRecord } from './records.ts'

export class VolumeTable {
  readonly #journal: Journal
  readonly #mounts = new Map<StageKey, MountRecord>()
  readonly #binds = new Map<AbsolutePath, BindRecord>()

  constructor (journal: Journal) {
    this.#journal = journal
  }

  /** Takes over what the journal held at start. */
  fill (records: readonly JournalRecord[]): void {
    for (const record of records) this.#remember(record)
  }

  async put (record: JournalRecord): Promise<void> {
    await this.#journal.put(record)
    this.#remember(record)
  }

  async dropMount (key: StageKey): Promise<void> {
    await this.#journal.drop(mountRecordId(key))
    this.#mounts.delete(key)
  }

  async dropBind (path: AbsolutePath): Promise<void> {
    await this.#journal.drop(bindRecordId(path))
    this.#binds.delete(path)
  }

  mount (key: StageKey): MountRecord | undefined {
    return this.#mounts.get(key)
  }

  bind (path: AbsolutePath): BindRecord | undefined {
    return this.#binds.get(path)
  }

  mounts (): readonly MountRecord[] {
    return [...this.#mounts.values()]
  }

  binds (): readonly BindRecord[] {
    return [...this.#binds.values()]
  }

  bindsOfKey (key: StageKey): readonly BindRecord[] {
    return this.binds().filter((bind) => bind.key === key)
  }

  bindsOfVolume (volume: VolumeId): readonly BindRecord[] {
    return this.binds().filter((bind) => bind.volume === volume)
  }

  #remember (record: JournalRecord): void {
    if (record.kind === 'mount') this.#mounts.set(record.key, record)
    else this.#binds.set(record.path, record)
  }
}
