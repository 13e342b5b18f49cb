import { existsSync, lstatSync, mkdtempSync, readdirSync, rmSync, unlinkSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { nodeService } from '../../../../agent/csi/node.ts'
import { Registration } from '../../../../agent/csi/registration.ts'
import type { RegistrationState } from '../../../../agent/csi/registration.ts'
import { RpcServer } from '../../../../agent/csi/server.ts'
import { loadServices } from '../../../../proto/csi/load.ts'
import type { PluginInfo } from '../../../../proto/csi/types.ts'
import { Kubelet } from '../../../peers/kubelet.ts'
import { nodeParts, ScriptedVolumes } from './scripted-volumes.ts'

const services = loadServices()
const observer = () => () => undefined
const retry = { firstMs: 20, maxMs: 200, checkMs: 50 }

async function until (what: string, condition: () => boolean): Promise<void> {
  for (const end = Date.now() + 20_000; !condition();) {
    if (Date.now() > end) throw new Error(`still not: ${what}`)
    await sleep(20)
  }
}

interface Fixture {
  kubelet: Kubelet
  registration: Registration
  states: RegistrationState[]
  endpoint: string
  watch: (refuse?: (info: PluginInfo) => string | undefined) => void
}

async function withRegistration (run: (fixture: Fixture) => Promise<void>): Promise<void> {
  const root = mkdtempSync(path.join(os.tmpdir(), 'vb-reg-'))
  const kubelet = new Kubelet(root)
  const endpoint = path.join(root, 'csi.sock')
  const node = new RpcServer({ services, socketPath: endpoint, field: 'x', unary: { observer, door: 'csi' } }, {
    Node: nodeService({ ...nodeParts, volumes: new ScriptedVolumes(), nodeId: 'node-a' })
  })
  await node.listen()
  const states: RegistrationState[] = []
  const registration = new Registration({
    services, observer, kubeletDir: root, driverName: 'csi.test', endpoint, onChange: (state) => states.push(state),
    retry
  })
  const stop = new AbortController()
  const watching: Promise<void>[] = []
  try {
    await run({
      kubelet, registration, states, endpoint,
      watch: (refuse) => { watching.push(kubelet.watchPlugins(stop.signal, refuse)) }
    })
  } finally {
    stop.abort()
    await Promise.all(watching)
    await registration.stop()
    await node.close({ graceMs: 100 })
    rmSync(root, { recursive: true })
  }
}

test('kubelet registers the driver under its name with the CSI socket as endpoint', async (t) => {
  await withRegistration(async ({ kubelet, registration, watch, endpoint }) => {
    watch()
    registration.start()
    await until('registered', () => registration.state.phase === 'registered' && kubelet.registered.has('csi.test'))
    t.deepEqual(kubelet.registered.get('csi.test'), {
      type: 'CSIPlugin', name: 'csi.test', endpoint, supportedVersions: ['1.0.0']
    })
    t.deepEqual(readdirSync(path.dirname(registration.socketPath)), ['csi.test-reg.sock'])
  })
})

test('a refused driver makes its socket anew until kubelet takes it', async (t) => {
  await withRegistration(async ({ registration, states, watch }) => {
    let refusals = 0
    watch(() => ++refusals <= 2 ? 'not today' : undefined)
    registration.start()
    await until('registered', () => registration.state.phase === 'registered')
    t.is(refusals, 3)
    t.deepEqual(states.filter(({ phase }) => phase === 'refused').map(({ error }) => error), ['not today', 'not today'])
  })
})

test('a socket that somebody removed comes back and is registered again', async (t) => {
  await withRegistration(async ({ kubelet, registration, watch }) => {
    watch()
    registration.start()
    await until('registered', () => kubelet.registered.has('csi.test'))
    unlinkSync(registration.socketPath)
    await until('forgotten or new', () => !kubelet.registered.has('csi.test') || existsSync(registration.socketPath))
    await until('registered again', () => existsSync(registration.socketPath) && kubelet.registered.has('csi.test'))
    t.pass()
  })
})

test('an agent that stops leaves the socket, and its successor replaces it', async (t) => {
  await withRegistration(async ({ kubelet, registration, endpoint, watch }) => {
    registration.start()
    await until('the socket is there', () => existsSync(registration.socketPath))
    const bornMs = lstatSync(registration.socketPath).birthtimeMs
    await registration.stop()
    t.is(lstatSync(registration.socketPath).birthtimeMs, bornMs)
    const successor = new Registration({
      services, observer, kubeletDir: kubelet.root, driverName: 'csi.test', endpoint, onChange: () => undefined, retry
    })
    successor.start()
    await until('a new socket', () => lstatSync(registration.socketPath).birthtimeMs !== bornMs)
    watch()
    await until('registered', () => successor.state.phase === 'registered')
    await successor.stop()
    t.pass()
  })
})

test('a plugin folder that can\'t be used is reported and tried again', async (t) => {
  const states: RegistrationState[] = []
  const registration = new Registration({
    services, observer, kubeletDir: '/proc/nothing', driverName: 'csi.test', endpoint: '/x',
    onChange: (state) => states.push(state), retry
  })
  registration.start()
  await until('two attempts', () => states.length >= 2)
  t.is(states[0]?.phase, 'refused')
  await registration.stop()
})
