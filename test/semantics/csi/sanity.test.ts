/**
 * csi-sanity, the community's judge of CSI drivers, on the packed agent with a real share.
 *
 * It makes every volume it mounts by CreateVolume (`-csi.testvolumeparameters` are that call's parameters), and we have
 * no controller. So it is given one that only makes folders (`test/peers/sanity-controller.ts`): all that it knows
 * about nodes is then judged on real mounts.
 */
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { ExecutionContext } from 'ava'
import { Ganesha } from '../../peers/ganesha.ts'
import { csiSanity } from '../../peers/needs.ts'
import { SanityController } from '../../peers/sanity-controller.ts'
import { testNeeding } from '../../peers/testing.ts'
import { TestNode, mountsBelow, run } from '../endtoend/node.ts'

/** Top groups that are not run, with the reason. csi-sanity marks what needs a controller itself. */
const skippedGroups: Readonly<Record<string, string>> = {
  'Controller Server': 'there is no controller service: it would judge the stand-in',
  'GroupController': 'there is no controller service, and NFS has no snapshots of groups'
}

/** Single tests that csi-sanity itself leaves out on a node like ours. One that is not named here must run. */
const skippedTests: Readonly<Record<string, string>> = {
  'NodeExpandVolume should fail when no volume id is provided':
    'EXPAND_VOLUME is not claimed: a share has no size of its own',
  'NodeExpandVolume should fail when no volume path is provided': 'as above',
  'NodeExpandVolume should fail when volume is not found': 'as above',
  'NodeExpandVolume should work if node-expand is called after node-publish': 'as above',
  'should work': 'wants the node\'s own Identity to claim a controller',
  'should be idempotent': 'as above'
}

interface Spec {
  readonly ContainerHierarchyTexts: readonly string[] | null
  readonly LeafNodeType: string
  readonly LeafNodeText: string
  readonly State: string
  readonly Failure?: { readonly Message: string }
}
interface Judgement { readonly name: string, readonly state: string, readonly message: string }

async function judge (t: ExecutionContext, node: TestNode, ganesha: Ganesha): Promise<readonly Judgement[]> {
  const folder = mkdtempSync(path.join(node.folder, 'sanity-'))
  const controller = new SanityController(ganesha.folder)
  const socket = path.join(folder, 'controller.sock')
  const parameters = path.join(folder, 'parameters.yaml')
  const report = path.join(folder, 'report.json')
  writeFileSync(
    parameters,
    JSON.stringify({ server: ganesha.host, share: ganesha.folder, mountOptions: ganesha.mountOptions })
  )
  await controller.listen(socket)
  try {
    const ran = await run(csiSanity, [
      '--csi.endpoint', `unix://${node.csiSocket}`, '--csi.controllerendpoint', `unix://${socket}`,
      '--csi.mountdir', path.join(node.makeFolder('kubelet/pods'), 'mount'), '--csi.stagingdir',
      path.join(node.kubelet, 'plugins', 'stage'),
      '--csi.testvolumeparameters', parameters, '--ginkgo.json-report', report, '--ginkgo.no-color',
      ...Object.keys(skippedGroups).flatMap((group) => ['--ginkgo.skip', group])
    ])
    if (!existsSync(report)) throw new Error(`csi-sanity did not run: ${ran.stdout.slice(-2000)}${ran.stderr}`)
    t.true(controller.created.length > 0, 'volumes of a real share were used')
  } finally {
    controller.close()
  }
  const [{ SpecReports: specs }] = JSON.parse(readFileSync(report, 'utf8')) as [{ SpecReports: Spec[] }]
  return specs.filter(({ LeafNodeType }) => LeafNodeType === 'It').map((spec) => ({
    name: [...spec.ContainerHierarchyTexts ?? [], spec.LeafNodeText].join(' '), state: spec.State,
    message: spec.Failure?.Message ?? ''
  }))
}

async function withNode (
  options: readonly string[],
  work: (node: TestNode, ganesha: Ganesha) => Promise<void>
): Promise<void> {
  const ganesha = await Ganesha.start()
  const node = new TestNode()
  try {
    await node.startAgent(options)
    await work(node, ganesha)
  } finally {
    await node.close()
    await ganesha.close()
  }
}

const isNamed = ({ name }: Judgement): boolean =>
  Object.keys(skippedGroups).some((group) => name.includes(group)) ||
  Object.keys(skippedTests).some((test) => name.endsWith(test))

for (const [what, options, more] of [
  ['as kubelet finds it today', [], ['NodeGetVolumeHealth', 'NodeGetStorageHealth']],
  ['with the health calls of CSI 1.13', ['--csi-health'], []]
] as const) {
  testNeeding('root', 'fuse', 'ganesha', 'csiSanity')(`csi-sanity finds nothing wrong with the node, ${what}`, async (t) => {
    await withNode(options, async (node, ganesha) => {
      const judgements = await judge(t, node, ganesha)
      const by = (state: string): readonly Judgement[] => judgements.filter((judgement) => judgement.state === state)
      t.deepEqual(by('failed').map(({ name, message }) => `${name}: ${message}`), [])
      t.deepEqual(
        judgements.filter(({ state }) => state !== 'passed' && state !== 'skipped' && state !== 'pending'),
        []
      )
      t.deepEqual(
        by('skipped').filter((judgement) =>
          !isNamed(judgement) && !more.some((group) => judgement.name.includes(group))
        ).map(({ name }) => name),
        []
      )
      t.log(`${by('passed').length} passed`)
      t.true(by('passed').length >= 20, `${by('passed').length}`)
      t.deepEqual(mountsBelow(node.kubelet), [])
    })
  })
}
