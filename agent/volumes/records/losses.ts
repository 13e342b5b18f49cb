/**
 * Data that write() had acknowledged and that could not be saved before a volume had to go. Owns its record, from the
 * unmount that lost it until the next one of the same share that lost nothing: whoever mounts it in between is told.
 * Does not know how data is lost.
 */
import type { StageKey } from '../../base/brands.ts'
import type { DataLoss, VolumeHealth } from '../operations.ts'
import type { VolumeTable } from './table.ts'

/** Shares whose last unmount lost something; the oldest are forgotten first. */
const lossesMax = 100

export async function noteLoss (table: VolumeTable, loss: DataLoss): Promise<void> {
  const oldest = table.losses().toSorted((a, b) => a.at < b.at ? -1 : 1).filter(({ key }) => key !== loss.key)
  for (const { key } of oldest.slice(0, Math.max(0, oldest.length + 1 - lossesMax))) await table.dropLoss(key)
  await table.put({ kind: 'loss', phase: 'lost', ...loss })
}

/** A clean end of the same share: what was lost before it is history. */
export async function forgetLoss (table: VolumeTable, key: StageKey): Promise<void> {
  if (table.loss(key) !== undefined) await table.dropLoss(key)
}

export function sayLoss ({ bytes, at }: DataLoss): string {
  return `${bytes} bytes that programs had written were lost when it was unmounted at ${at}, because the server did not take them in time; check the files that were being written then`
}

/** A volume that lost data is not healthy, however well its server is. */
export function withLoss (health: VolumeHealth, loss: DataLoss | undefined): VolumeHealth {
  if (loss === undefined) return health
  const lost = sayLoss(loss)
  return health.state === 'healthy' ? { state: 'degraded', reason: lost, lost } : { ...health, lost }
}
