/**
 * The engine's events as log lines.
 *
 * Owns level and wording of each, in one total table. Does not decide anything.
 */
import type { Log, LogLevel } from '../observe/log.ts'
import type { VolumeEvent, VolumeEvents } from '../volumes/events.ts'

type EventOf<K extends VolumeEvent['kind']> = Extract<VolumeEvent, { kind: K }>

const lines: { readonly [K in VolumeEvent['kind']]: (event: EventOf<K>) => readonly [LogLevel, string] } = {
  'journal-damaged':
    ({ file, reason }) => ['error', `the journal file ${file} is damaged and was set aside: ${reason}`],
  'recovered': ({ deed, reason }) => ['info', `recovery: ${deed}, because ${reason}`],
  'mount-started': ({ source }) => ['info', `${source} is mounted`],
  'mount-ended': ({ source }) => ['info', `${source} is unmounted`],
  'mount-died': ({ source, reason }) => ['error', `${source} is not served any more: ${reason}; it is mounted anew`],
  'mount-lingers':
    ({ source, others }) => ['info', `${source} stays mounted because it is also at ${others.join(', ')}`],
  'data-lost': ({ source, lostBytes }) => [
    'error',
    `${lostBytes} bytes written to ${source} could not be saved before it was unmounted: the server did not take them in time`
  ],
  'undo-failed': ({ path, reason }) => [
    'error', `${path} could not be cleaned up: ${reason}; it is tried again`
  ],
  'healed': ({ path }) => [
    'warn', `${path} is mounted anew after its session died; what no fsync or close had confirmed is lost`
  ],
  'heal-failed': ({ reason, tries }) => [
    tries === 1 ? 'error' : 'warn', `a dead mount could not be mounted anew (try ${tries}): ${reason}`
  ],
  'root-changed': ({ source, reason }) => ['warn', `${source} is mounted anew for pods that start now: ${reason}`],
  'end-failed': ({ path, reason, tries }) => [
    tries === 1 ? 'error' : 'warn', `${path} is to be taken away and is still there (try ${tries}): ${reason}`
  ],
  'note': ({ text }) => ['info', text]
}

export function engineEvents (log: Log): VolumeEvents {
  return (event) => {
    const [level, message] = (lines[event.kind] as (event: VolumeEvent) => readonly [LogLevel, string])(event)
    const { kind, ...facts } = event
    log(level, { op: kind, ...facts }, message)
  }
}
