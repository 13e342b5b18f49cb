/** The deeds of a CSI volume and of a Flex volume on a real engine below one folder, with the stand-in session. Owns
 * their paths and ids. */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseAbsolutePath, toVolumeId, type AbsolutePath } from '../../../agent/base/brands.ts'
import { startEngine, type Engine } from '../../../agent/volumes/engine.ts'
import type { VolumeOperations } from '../../../agent/volumes/operations.ts'
import { parseVolumeSpec } from '../../../agent/volumes/spec/spec.ts'

const session = fileURLToPath(new URL('stand-in-session.ts', import.meta.url))

export async function startEngineIn (root: string): Promise<Engine> {
  return await startEngine({
    stateDir: `${root}/state`, runDir: `${root}/run`,
    sessionCommand: {
      file: process.execPath, args: ['--no-warnings', session],
      files: [process.execPath, join(import.meta.dirname, '../../..')].map((what) => ({ kind: 'run', what }))
    },
    cgroup: false,
    events: () => undefined
  })
}

const at = (root: string, name: string): AbsolutePath => parseAbsolutePath(`${root}/${name}`, 'test')
export const stagingIn = (root: string): AbsolutePath => at(root, 'staging/v')
export const targetIn = (root: string): AbsolutePath => at(root, 'pods/mount')
/** kubelet has made it, and will remove it. */
export const flexTargetIn = (root: string): AbsolutePath => at(root, 'pods/flex')
const volume = toVolumeId('v')
const flexVolume = toVolumeId('flex-v')
const spec = parseVolumeSpec({ server: '127.0.0.1', share: '/export' })

export const deeds = {
  stage: async (service: VolumeOperations, root: string) => {
    await service.stage({ volume, spec, staging: stagingIn(root), door: 'csi' })
  },
  publish: async (service: VolumeOperations, root: string) => {
    await service.publish({
      volume, spec, staging: stagingIn(root), target: targetIn(root), readOnly: true, door: 'csi', owner: undefined
    })
  },
  unpublish: async (service: VolumeOperations, root: string) => {
    await service.unpublish({ volume, target: targetIn(root), door: 'csi' })
  },
  unstage: async (service: VolumeOperations, root: string) => {
    await service.unstage({ volume, staging: stagingIn(root) })
  },
  mountFlex: async (service: VolumeOperations, root: string) => {
    await service.publish({
      volume: flexVolume, spec, staging: undefined, target: flexTargetIn(root), readOnly: false, door: 'flex',
      owner: undefined
    })
  },
  unmountFlex: async (service: VolumeOperations, root: string) => {
    await service.unpublish({ volume: flexVolume, target: flexTargetIn(root), door: 'flex' })
  }
} as const
export type DeedName = keyof typeof deeds
