/**
 * All volumes of this node as the engine means them. Owns the memory image of the journal and the order "durable first,
 * then visible". Does not know what is really mounted.
 */
import type { AbsolutePath, StageKey, VolumeId } from '../../base/brands.ts'
import type { Journal } from './journal.ts'
import {
  bindRecordId,
  lossRecordId,
  mountRecordId,
  type BindRecord,
  type JournalRecord,
  type LossRecord,
  type MountRecord
} from './records.ts'

export class VolumeTable {
  readonly #journal: Journal
  readonly #mounts = new Map<StageKey, MountRecord>()
  readonly #binds = new Map<AbsolutePath, BindRecord>()
  readonly #losses = new Map<StageKey, LossRecord>()

  constructor (journal: Journal) {
    this.#journal = journal
  }

  /** Takes over what the journal held at start. */
  fill (records: readonly JournalRecord[]): void {
    for (const record of records) this.#remember(record)
  }

  async put (record: JournalRecord): Promise<void> {
    /* A loss is known at once: a full disk must not hide it. */
    if (record.kind === 'loss') this.#remember(record)
    await this.#journal.put(record)
    this.#remember(record)
  }

  /**
   * What is to be taken away is so from now on, also when the journal cannot say it: a full disk must not keep a mount.
   * @throws when the record is not durable; it is known all the same.
   */
  async intendEnd (record: MountRecord | BindRecord): Promise<void> {
    this.#remember(record)
    await this.#journal.put(record)
  }

  async dropMount (key: StageKey): Promise<void> {
    await this.#journal.drop(mountRecordId(key))
    this.#mounts.delete(key)
  }

  async dropBind (path: AbsolutePath): Promise<void> {
    await this.#journal.drop(bindRecordId(path))
    this.#binds.delete(path)
  }

  async dropLoss (key: StageKey): Promise<void> {
    this.#losses.delete(key)
    await this.#journal.drop(lossRecordId(key))
  }

  mount (key: StageKey): MountRecord | undefined {
    return this.#mounts.get(key)
  }

  bind (path: AbsolutePath): BindRecord | undefined {
    return this.#binds.get(path)
  }

  loss (key: StageKey): LossRecord | undefined {
    return this.#losses.get(key)
  }

  losses (): readonly LossRecord[] {
    return [...this.#losses.values()]
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

  /** Binds that want the mount of a key: those that are being taken away do not. */
  usersOfKey (key: StageKey): readonly BindRecord[] {
    return this.bindsOfKey(key).filter(({ phase }) => phase !== 'detaching')
  }

  bindsOfVolume (volume: VolumeId): readonly BindRecord[] {
    return this.binds().filter((bind) => bind.volume === volume)
  }

  #remember (record: JournalRecord): void {
    if (record.kind === 'mount') this.#mounts.set(record.key, record)
    else if (record.kind === 'loss') this.#losses.set(record.key, record)
    else this.#binds.set(record.path, record)
  }
}
