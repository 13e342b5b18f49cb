/** What the agent tells of itself in its pod, to whom, and what is left when its manifests are deleted. */
import path from 'node:path'
import { until } from '../../scripts/kubernetes/api.ts'
import type { Declare } from '../peers/testing.ts'
import { driver, podMs, root, type Stage, type World } from './world.ts'

interface Finding { readonly check: string, readonly verdict: string, readonly found: string }

async function driversOf (world: World): Promise<readonly string[]> {
  const node = await world.api.find(`/apis/storage.k8s.io/v1/csinodes/${world.cluster.plan.nodeName}`)
  const { drivers = [] } = (node?.spec ?? {}) as { readonly drivers?: ReadonlyArray<{ readonly name: string }> | null }
  return (drivers ?? []).map(({ name }) => name)
}

async function asked (world: World, token?: string): Promise<number> {
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
  return (await fetch(`http://127.0.0.1:${world.agentPort}/status.json`, { headers })).status
}

export function podTests (declare: Declare, stage: Stage): void {
  declare('doctor in the DaemonSet’s pod has nothing to warn of', async (t) => {
    const { world } = stage
    const { stdout } = await world.kubectl([
      '-n', 'kube-system', 'exec', 'daemonset/volbridge-agent', '--', 'volbridge', 'doctor', '--json'
    ])
    const findings = JSON.parse(stdout) as readonly Finding[]
    t.deepEqual(findings.filter(({ verdict }) => verdict === 'warning' || verdict === 'failed'), [])
    t.regex(findings.find(({ check }) => check === 'mount propagation')?.found ?? '', /--host-ns/)
    t.regex(
      findings.find(({ check }) => check === 'agent')?.found ?? '',
      new RegExp(`HTTP at 127\\.0\\.0\\.1:${world.agentPort}`)
    )
  })
}

export function removalTests (declare: Declare, stage: Stage): void {
  declare('with deploy/csi-status the page is for tokens of the cluster whose owners RBAC allows', async (t) => {
    const { world } = stage
    t.is(await asked(world), 403, 'without it details are for nobody')
    const before = await world.daemonPod('volbridge-agent')
    // The tests before this one run with inline volumes; which kinds a driver serves can't be changed afterwards.
    await world.kube(['delete', 'csidriver', driver])
    await world.deploy('csi-status')
    await world.daemonPod('volbridge-agent', before.metadata.uid ?? '')
    await world.kube(['create', 'serviceaccount', 'reader'])
    const token = (await world.kube(['create', 'token', 'reader'])).trim()
    t.is(await asked(world), 401)
    t.is(await asked(world, 'nobodys-token'), 401)
    t.is(await asked(world, token), 403)
    await world.kube([
      'create', 'clusterrolebinding', 'reader', '--clusterrole=volbridge-status-reader',
      '--serviceaccount=default:reader'
    ])
    t.is(await until('the right to count', async () => await asked(world, token) === 200 ? 200 : undefined, podMs), 200)
    await world.kube(['delete', 'clusterrolebinding/reader', 'serviceaccount/reader'])
  })

  declare('after kubectl delete -k neither a socket nor an entry in CSINode is left', async (t) => {
    const { world } = stage
    t.deepEqual(await driversOf(world), [driver])
    await world.kube(['delete', '-k', path.join(root, 'deploy/csi-status'), '--wait=true'])
    await until(
      'the end of the entry in CSINode',
      async () => (await driversOf(world)).length === 0 ? true : undefined,
      podMs
    )
    const left = await world.cluster.node.shell(
      `find /var/lib/kubelet/plugins /var/lib/kubelet/plugins_registry /run/volbridge -type s 2> /dev/null || true`
    )
    t.is(left.trim(), '')
  })
}
