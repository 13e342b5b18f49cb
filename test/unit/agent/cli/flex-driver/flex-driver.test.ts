import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { VolumeError } from '../../../../../agent/base/errors.ts'
import { parseFlexDriverName } from '../../../../../agent/cli/flex-driver/driver-name.ts'
import { contains, libraryProblems } from '../../../../../agent/cli/flex-driver/floor.ts'
import { onHost } from '../../../../../agent/cli/flex-driver/host-root.ts'
import { flagOf, topLevelString } from '../../../../../agent/cli/flex-driver/kubelet-arguments.ts'
import { findKubelets } from '../../../../../agent/cli/flex-driver/kubelets.ts'
import { choosePluginFolder } from '../../../../../agent/cli/flex-driver/plugin-folder.ts'
import { showProcess, type ShownProcess } from '../../../../peers/node-root.ts'

/** A node's root folder with these files. A value that is a list is the command line of a process, its key the pid. */
function nodeWith (t: ExecutionContext, files: Readonly<Record<string, string | readonly string[]>>): string {
  const root = mkdtempSync(path.join(os.tmpdir(), 'vb-root-'))
  t.teardown(() => { rmSync(root, { recursive: true }) })
  mkdirSync(path.join(root, 'proc/1'), { recursive: true })
  for (const [name, text] of Object.entries(files)) {
    if (typeof text !== 'string') {
      showProcess(root, Number(name), { argv: text })
      continue
    }
    mkdirSync(path.dirname(path.join(root, name)), { recursive: true })
    writeFileSync(path.join(root, name), text, 'latin1')
  }
  return root
}

for (const [what, files, folder, why] of [
  [
    'a plain kubelet', { 7: ['/usr/bin/kubelet', '--v=2'] },
    '/usr/libexec/kubernetes/kubelet-plugins/volume/exec', /default/
  ],
  [
    '--volume-plugin-dir=DIR/', { 7: ['kubelet', '--volume-plugin-dir=/opt/x/'] }, '/opt/x',
    /--volume-plugin-dir/
  ],
  [
    '--volume-plugin-dir DIR', { 7: ['kubelet', '--volume-plugin-dir', '/opt/x'] }, '/opt/x',
    /--volume-plugin-dir/
  ],
  [
    'YAML configuration',
    {
      7: ['kubelet', '--config=/var/lib/kubelet/config.yaml'],
      'var/lib/kubelet/config.yaml': 'kind: KubeletConfiguration\nvolumePluginDir: "/data/plugins"  # ours\n'
    },
    '/data/plugins', /config\.yaml/
  ],
  [
    'JSON configuration',
    { 7: ['kubelet', '--config', '/k.json'], 'k.json': '{"volumePluginDir": "/json"}' },
    '/json', /k\.json/
  ],
  [
    'a drop-in over the configuration',
    {
      7: ['kubelet', '--config=/k.yaml', '--config-dir=/k.d'],
      'k.yaml': 'volumePluginDir: /a', 'k.d/10.conf': 'volumePluginDir: /b', 'k.d/20.conf': 'volumePluginDir: /c',
      'k.d/30.txt': 'volumePluginDir: /d'
    },
    '/c', /20\.conf/
  ],
  [
    'an argument over the configuration',
    {
      7: ['kubelet', '--config=/k.yaml', '--volume-plugin-dir=/flag'],
      'k.yaml': 'volumePluginDir: /a'
    },
    '/flag', /--volume-plugin-dir/
  ],
  [
    'a nested key of that name',
    { 7: ['kubelet', '--config=/k.yaml'], 'k.yaml': 'other:\n  volumePluginDir: /nested\n' },
    '/usr/libexec/kubernetes/kubelet-plugins/volume/exec', /default/
  ],
  [
    'hyperkube', { 7: ['/hyperkube', 'kubelet', '--volume-plugin-dir=/rke'] }, '/rke',
    /--volume-plugin-dir/
  ],
  ['k3s', { 7: ['/usr/local/bin/k3s', 'agent'] }, '/var/lib/kubelet/volumeplugins', /k3s/],
  [
    'k3s with --kubelet-arg',
    { 7: ['k3s', 'server', '--kubelet-arg=volume-plugin-dir=/k3s'] }, '/k3s',
    /--volume-plugin-dir/
  ],
  [
    'k3s with a configuration file',
    {
      7: ['k3s', 'server'],
      'etc/rancher/k3s/config.yaml': 'kubelet-arg:\n  - "volume-plugin-dir=/from-file"\n'
    },
    '/from-file', /--volume-plugin-dir/
  ],
  [
    'microk8s',
    {
      7: ['/snap/kubelite', '--kubelet-args-file=/args'],
      'args': '--root-dir=/r\n--volume-plugin-dir=/snap/plugins\n'
    },
    '/snap/plugins', /--volume-plugin-dir/
  ],
  [
    'a program whose file carries its version',
    { 7: ['/opt/k8s/kubelet-v1.30.2', '--volume-plugin-dir=/versioned'] }, '/versioned', /--volume-plugin-dir/
  ],
  [
    'no kubelet, one known place', { 'opt/libexec/kubernetes/kubelet-plugins/volume/exec/.keep': '' },
    '/opt/libexec/kubernetes/kubelet-plugins/volume/exec', /Flatcar/
  ]
] as const) {
  test(`the plugin folder is found with ${what}`, (t) => {
    const { path: found, reason } = choosePluginFolder(nodeWith(t, files), undefined)
    t.is(found, folder)
    t.regex(reason, why)
  })
}

test('what is asked for is used without looking; what is no kubelet is not taken for one', (t) => {
  const root = nodeWith(t, {
    7: ['/usr/bin/kubelet-helper', '--volume-plugin-dir=/no'],
    8: ['grep', 'kubelet'], 'proc/9/cmdline': ''
  })
  t.deepEqual(findKubelets(root), { kubelets: [], doubted: [] })
  t.is(choosePluginFolder(root, '/asked').path, '/asked')
})

const kubelet = { argv: ['kubelet', '--volume-plugin-dir=/trap'] }
const impostors: ReadonlyArray<readonly [what: string, process: ShownProcess, why: RegExp]> = [
  ['of another user', { ...kubelet, uid: 65534 }, /runs as uid 65534/],
  ['in a user namespace of its own', { ...kubelet, userNamespace: 2 }, /user namespace/],
  ['in a mount namespace of its own', { ...kubelet, mountNamespace: 2 }, /mount namespace/],
  ['in a root folder of its own', { ...kubelet, root: '/var/lib/machines/x' }, /root folder/],
  ['whose program others can write to', { ...kubelet, programMode: 0o775 }, /others than root can write/],
  ['whose program is set-id', { ...kubelet, programMode: 0o4755 }, /set-id/],
  ['whose program is another', { ...kubelet, program: '/usr/bin/sudo', name: 'kubelet' }, /its program is sudo/],
  ['whose program lies where others can put it', { ...kubelet, program: '/shared/bin/kubelet' }, /shared.*mode 0777/]
]
for (const [what, process, why] of impostors) {
  test(`a process named kubelet ${what} is doubted, says no folder, and does not stand beside one that is believed`, (t) => {
    const root = nodeWith(t, {})
    mkdirSync(path.join(root, 'shared'))
    chmodSync(path.join(root, 'shared'), 0o777)
    showProcess(root, 7, process)
    const seen = findKubelets(root)
    t.deepEqual(seen.kubelets, [])
    t.deepEqual(seen.doubted.map(({ pid }) => pid), [7])
    t.regex(seen.doubted[0]?.why ?? '', why)
    t.regex(
      t.throws(() => choosePluginFolder(root, undefined))?.message ?? '',
      /process 7 .*not believed.*--plugin-dir/
    )
    showProcess(root, 8, { argv: ['kubelet', '--volume-plugin-dir=/right'], program: '/opt/bin/kubelet' })
    t.is(choosePluginFolder(root, undefined).path, '/right')
  })
}

test('a configuration that is a pipe, too long, or another user\'s is told, and not taken for the default', (t) => {
  const cases: ReadonlyArray<readonly [make: (file: string) => void, why: RegExp]> = [
    [(file) => { execFileSync('mkfifo', [file]) }, /k\.yaml is not a regular file/],
    [(file) => { writeFileSync(file, `#${'x'.repeat(1 << 20)}`) }, /k\.yaml is longer than/],
    [(file) => { writeFileSync(file, 'volumePluginDir: /trap'); chmodSync(file, 0o666) }, /k\.yaml can be written by/],
    [(file) => { symlinkSync('/shared/k.yaml', file) }, /shared can be written by others/]
  ]
  for (const [make, why] of cases) {
    const root = nodeWith(t, {
      7: ['kubelet', '--config=/etc/k.yaml'], 'etc/other': '', 'shared/k.yaml': 'volumePluginDir: /trap'
    })
    chmodSync(path.join(root, 'shared'), 0o777)
    make(path.join(root, 'etc/k.yaml'))
    const error = t.throws(() => choosePluginFolder(root, undefined), { instanceOf: VolumeError })
    t.is(error?.code, 'PRECONDITION')
    t.regex(error?.message ?? '', why)
    t.regex(error?.message ?? '', /process 7.*--plugin-dir/)
  }
})

test('no kubelet and no known place, or two of them, are errors that name the option', (t) => {
  const none = t.throws(() => choosePluginFolder(nodeWith(t, {}), undefined), { instanceOf: VolumeError })
  t.is(none?.code, 'NOT_FOUND')
  t.regex(none?.message ?? '', /--plugin-dir/)
  const two = t.throws(
    () =>
      choosePluginFolder(
        nodeWith(t, { 'var/lib/kubelet/volumeplugins/a': '', 'etc/kubernetes/volumeplugins/a': '' }),
        undefined
      ),
    { instanceOf: VolumeError }
  )
  t.regex(two?.message ?? '', /volumeplugins.*k3s.*AKS.*--plugin-dir/)
})

test('links of a node are followed inside its root, and a loop of them is an error', (t) => {
  const root = nodeWith(t, { 'data/kubelet/x': '' })
  mkdirSync(path.join(root, 'var/lib'), { recursive: true })
  symlinkSync('/data/kubelet', path.join(root, 'var/lib/kubelet'))
  symlinkSync('../../../../../data', path.join(root, 'var/lib/up'))
  symlinkSync('/var/lib/loop', path.join(root, 'var/lib/loop'))
  t.is(onHost(root, '/var/lib/kubelet/x'), `${root}/data/kubelet/x`)
  t.is(onHost(root, '/var/lib/up/kubelet'), `${root}/data/kubelet`)
  t.is(onHost(root, '/var/lib/new/../other'), `${root}/var/lib/other`)
  t.is(onHost('/', '/var/lib'), '/var/lib')
  t.throws(() => onHost(root, '/var/lib/loop'), { instanceOf: VolumeError, message: /too many symbolic links/ })
})

test('a driver is named vendor/driver, and nothing of its name can leave the folder', (t) => {
  t.deepEqual(parseFlexDriverName('volbridge.io/volbridge'), {
    name: 'volbridge.io/volbridge', folder: 'volbridge.io~volbridge', file: 'volbridge'
  })
  for (const bad of ['', 'volbridge', '/x', 'a/', 'a/b/c', '../x', 'a/..', 'a~b/c', '.a/b', 'a b/c', 'a/b\n']) {
    t.throws(() => parseFlexDriverName(bad), { instanceOf: VolumeError, message: /^--driver: / }, bad)
  }
})

test('the last of several flags counts; a value may be the next argument', (t) => {
  t.is(flagOf(['--a=1', '--b', '2', '-a=3'], 'a'), '3')
  t.is(flagOf(['--a'], 'a'), undefined)
  t.is(topLevelString('{"a": 1}', 'a'), undefined)
  t.is(topLevelString('a: \'x y\'', 'a'), 'x y')
  t.is(topLevelString('a: ""', 'a'), undefined)
})

test('libraries below the floor are told by file, those of musl by name, and newer ones pass', (t) => {
  const old = nodeWith(t, { 'lib64/libc.so.6': '\0GLIBC_2.17\0', 'usr/lib64/libstdc++.so.6': '\0GLIBCXX_3.4.19\0' })
  t.deepEqual(libraryProblems(old).map((problem) => problem.slice(old.length)), [
    '/lib64/libc.so.6 is older than glibc 2.28',
    '/usr/lib64/libstdc++.so.6 is older than libstdc++ with GLIBCXX_3.4.21 (GCC 5)'
  ])
  t.deepEqual(
    libraryProblems(
      nodeWith(t, { 'usr/lib/libc.so.6': '\0GLIBC_2.17\0GLIBC_2.28\0', 'usr/lib/libstdc++.so.6': '\0GLIBCXX_3.4.21\0' })
    ),
    []
  )
  t.regex(libraryProblems(nodeWith(t, { 'lib/ld-musl-x86_64.so.1': '' })).join(), /musl/)
  t.regex(libraryProblems(nodeWith(t, { 'lib64/libc.so.6': '\0GLIBC_2.28\0' })).join(), /install libstdc\+\+/)
  t.deepEqual(libraryProblems(nodeWith(t, {})), [], 'libraries elsewhere say nothing')
  t.deepEqual(libraryProblems('/'), [])
})

test('a text is found across the borders of what is read at once', (t) => {
  const root = nodeWith(t, { file: `${'x'.repeat((1 << 20) - 5)}needle-in-it` })
  t.true(contains(path.join(root, 'file'), 'needle-in-it'))
  t.false(contains(path.join(root, 'file'), 'needle-in-its'))
  t.false(contains(path.join(root, 'proc/../file'), 'absent'))
})
