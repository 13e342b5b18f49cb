/**
 * Who asks for a volume: whose words its attributes are, and for which pod.
 *
 * Owns what kubelet's marks are worth. kubelet writes its own keys over those of a volume (k8s pkg/volume/csi,
 * csi_mounter.go SetUpAt), but only with podInfoOnMount; without it, and through Flex, whoever writes the attributes
 * can write the same keys. What nobody can write beforehand is the uid of a pod that is not made yet, and kubelet puts
 * that into the target's path. Does not know what is allowed.
 */
import type { Door } from '../volumes/operations.ts'
import { PolicyRefusal, type Asker } from '../volumes/policy/policy.ts'
import { podUidOf } from '../volumes/policy/quota.ts'
import type { NodePublishVolumeRequest, StringMap } from '../../proto/csi/types.ts'

export interface AskingPod {
  readonly namespace: string | undefined
  readonly name: string | undefined
  /** From the target's path. */
  readonly uid: string | undefined
  /** Namespace and name were written by kubelet; otherwise by whoever wrote the volume's attributes. */
  readonly isVouched: boolean
}

type Published = Pick<NodePublishVolumeRequest, 'volumeContext' | 'volumeId' | 'stagingTargetPath' | 'targetPath'>

/** k8s pkg/volume/csi makeVolumeHandle: SHA-256 of the pod's uid and the volume's name. */
const inlineHandle = /^csi-[0-9a-f]{64}$/

const askerOfDoor = { csi: 'persistent', flex: 'flex', hand: 'hand' } as const satisfies Record<Door, Asker>

/** kubelet stages no inline volume. */
export const stagerOf = (door: Door): Asker => askerOfDoor[door]

/** Every sign of an inline volume is taken as one: kubelet stages all others, and marks an inline one if it may. */
export function askerOf (door: Door, request: Published): Asker {
  if (door !== 'csi') return askerOfDoor[door]
  const isInline = request.volumeContext['csi.storage.k8s.io/ephemeral'] === 'true' ||
    request.stagingTargetPath === '' || inlineHandle.test(request.volumeId)
  return isInline ? 'ephemeral' : 'persistent'
}

/** Through Flex whoever writes the options chooses them: no terminal and no log line is to be written on by these. */
const shown = (text: string | undefined): string | undefined => text?.slice(0, 253).replaceAll(/\p{Cc}/gu, '?')

export function podOf (context: StringMap, targetPath: string, door: Door): AskingPod {
  const uid = podUidOf(targetPath)
  return {
    namespace: shown(context['csi.storage.k8s.io/pod.namespace']),
    name: shown(context['csi.storage.k8s.io/pod.name']),
    uid,
    isVouched: door === 'csi' && uid !== undefined && context['csi.storage.k8s.io/pod.uid'] === uid
  }
}

/** @throws PolicyRefusal PRECONDITION when it cannot be known for whom an inline volume is. */
export function requireVouched (asker: Asker, { isVouched }: AskingPod): void {
  if (asker !== 'ephemeral' || isVouched) return
  throw new PolicyRefusal(
    'podInfoOnMount',
    'PRECONDITION',
    'volume_context: csi.storage.k8s.io/pod.uid is not the uid in target_path: kubelet does not say whose inline volume this is',
    { field: 'volume_context', remedy: 'set podInfoOnMount: true in the CSIDriver object' }
  )
}
