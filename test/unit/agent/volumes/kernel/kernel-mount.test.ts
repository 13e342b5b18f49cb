/** A mount of the kernel's client, its server scripted. */
import test from 'ava'
import type { VolumeSpec } from '../../../../../agent/base/volume-spec.ts'
import type { Mounts } from '../../../../../agent/host/mounts.ts'
import { KernelMount } from '../../../../../agent/volumes/kernel/kernel-mount.ts'

test('each who asks for a sign of life waits for as long as it said itself, and the server is asked once', async (t) => {
  const asked: number[] = []
  let answer: (trouble: string) => void = () => undefined
  const mount = new KernelMount({
    facts: { socketPath: undefined, process: undefined, device: undefined },
    server: { version: '4.2', address: '192.0.2.1', port: undefined },
    spec: {} as VolumeSpec, remark: '', mounts: {} as Mounts, mountPoint: '/x', undrained: () => undefined,
    probe: async (_server, deadlineMs) => {
      asked.push(deadlineMs)
      return await new Promise((resolve) => { answer = resolve })
    }
  })
  const patient = mount.probe(60_000)
  t.like(await mount.probe(20), {
    state: 'unreachable', reason: 'the server did not answer within 20 ms; check the server and the network'
  })
  answer('')
  t.like(await patient, { state: 'healthy' })
  t.is(asked.length, 1)
  const next = mount.probe(60_000)
  answer('it is gone')
  t.like(await next, { state: 'unreachable', reason: 'it is gone' })
})
