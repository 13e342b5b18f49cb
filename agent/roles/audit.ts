/**
 * The audit: one line of the agent's log for each mount that was asked for, allowed or refused.
 *
 * Owns its form: who asked and how far that is to be believed, what was asked for, what came of it and by which rule.
 * Does not judge.
 */
import { defaultFsGroupContents, showSource, type VolumeSpec } from '../base/volume-spec.ts'
import type { Audit, AuditEntry } from '../csi/admission.ts'
import type { Log } from '../observe/log.ts'
import { shortened } from '../observe/redact.ts'
import type { Door } from '../volumes/operations.ts'

/** Whose word the pod's name is; its uid is always kubelet's, from the target's path. */
const sourceOf = {
  csi: ({ pod, call }) => pod.isVouched ? 'kubelet' : call === 'stage' ? 'nobody' : 'the volume\'s attributes',
  flex: () => 'the volume\'s options',
  hand: () => 'nobody'
} as const satisfies Record<Door, (entry: AuditEntry) => string>

/** What of a volume reaches beyond its files, or changes something on the server. */
function powersOf (spec: VolumeSpec): object {
  const { flags, mountPermissions, mountGroup, fsGroupContents, restraint, client, target } = spec
  return {
    client,
    suid: !flags.nosuid,
    dev: !flags.nodev,
    ...mountPermissions === undefined ? {} : { mountPermissions: mountPermissions.toString(8) },
    ...mountGroup === undefined ? {} : { mountGroup, fsGroupContents: fsGroupContents ?? defaultFsGroupContents },
    ...target.identity === undefined ? {} : { identity: target.identity },
    ...restraint === undefined ? {} : { restraint }
  }
}

export function auditTo (log: Log): Audit {
  return (entry) => {
    const { call, door, asker, pod, volume, path, outcome, rule, spec, reason } = entry
    log(outcome === 'allowed' ? 'info' : 'warn', {
      op: 'audit', outcome, call, door, asker, rule, volume: shortened(volume), path: shortened(path),
      pod: { namespace: pod.namespace, name: pod.name, uid: pod.uid, saidBy: sourceOf[door](entry) },
      ...spec === undefined ? {} : { source: shortened(showSource(spec)), ...powersOf(spec) }
    }, `${call} ${outcome} by "${rule}"${reason === undefined ? '' : `: ${shortened(reason)}`}`)
  }
}
