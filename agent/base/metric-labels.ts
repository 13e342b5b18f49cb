/**
 * What volumes and sessions are called in metrics, which everybody on the node may read and which travel further.
 *
 * Owns those names. A volume's own name may hold a server, a path or a pod's name; a hash of it says nothing and is the
 * same on every node and after every restart. `volbridge status` tells both.
 */
import { createHash } from 'node:crypto'
import type { StageKey } from './brands.ts'

/** Enough to tell apart the volumes of a cluster, and short enough to read. */
const labelLength = 16

export const volumeLabel = (volume: string): string =>
  createHash('sha256').update(volume).digest('hex').slice(0, labelLength)

/** The key is a hash already. */
export const sessionLabel = (key: StageKey): string => key.slice(0, labelLength)
