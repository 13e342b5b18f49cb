import test from 'ava'
import { importsOf, layers, violationsOf } from '../../../scripts/checks/layers.ts'

test('every form of an import is seen, and types are told apart', (t) => {
  const text = [
    "import { a } from './a.ts'",
    "import type { B } from './b.ts'",
    "import { type C, type D } from './c.ts'",
    "import { type E, f } from './e.ts'",
    "export * from './g.ts'",
    "export type { H } from './h.ts'",
    "const i = await import('./i.ts')",
    "let j: import('./j.ts').J",
    'const k = await import(name)',
    "import './l.ts'"
  ].join('\n')
  t.deepEqual(importsOf('x.ts', text).map(({ specifier, typesOnly }) => [specifier, typesOnly]), [
    ['./a.ts', false], ['./b.ts', true], ['./c.ts', true], ['./e.ts', false], ['./g.ts', false],
    ['./h.ts', true], ['./i.ts', false], ['./j.ts', true], ['', false], ['./l.ts', false]
  ])
})

for (const [file, text, accused] of [
  [
    'agent/fs/pages.ts', "import { READ } from '../../proto/nfs3/read.ts'",
    'agent/fs may not import proto/nfs3/read.ts'
  ],
  ['agent/fs/pages.ts', "import net from 'node:net'", 'agent/fs may not import node:net'],
  [
    'agent/nfs/backend.ts', "import { Inodes } from '../fs/objects/inodes.ts'",
    'agent/nfs may import only types from agent/fs/objects/inodes.ts'
  ],
  [
    'agent/volumes/service.ts', "const x = await import('../session/process.ts')",
    'agent/volumes may import only types from agent/session/process.ts'
  ],
  [
    'agent/session/adapter.ts', "import { Filesystem } from '../fs/filesystem.ts'",
    'agent/session may import only types from agent/fs/filesystem.ts'
  ],
  [
    'agent/volumes/spec/key.ts', "import type { Door } from '../operations.ts'",
    'agent/volumes/spec may not import agent/volumes/operations.ts'
  ],
  [
    'agent/volumes/spec/key.ts', "import { Mounts } from '../../host/mounts.ts'",
    'agent/volumes/spec may not import agent/host/mounts.ts'
  ],
  [
    'agent/volumes/kernel/kernel-mounter.ts', "import type { Sessions } from '../fuse/sessions.ts'",
    'agent/volumes/kernel may not import agent/volumes/fuse/sessions.ts'
  ],
  [
    'agent/volumes/fuse/sessions.ts', "import { kernelTypes } from '../kernel/kernel-mount.ts'",
    'agent/volumes/fuse may not import agent/volumes/kernel/kernel-mount.ts'
  ],
  ['proto/nfs3/read.ts', "import fs from 'node:fs'", 'proto may not import node:fs'],
  ['agent/csi/node.ts', 'await import(somewhere)', 'imports a module whose name is computed'],
  [
    'agent/host/mounts.ts', "import { x } from '../../test/peers/ganesha.ts'",
    'agent/host may not import test/peers/ganesha.ts'
  ],
  ['somewhere/else.ts', "import fs from 'node:fs'", 'lies in no folder that the table knows']
] as const) {
  test(`${file}: ${text} is refused`, (t) => {
    t.deepEqual(violationsOf(file, text), [`${file}:1 ${accused}`])
  })
}

test('what the architecture allows is allowed', (t) => {
  const allowed = [
    ['agent/fs/pages.ts', "import { Errno } from '../base/errno.ts'"],
    ['agent/nfs/backend.ts', "import type { Backend } from '../fs/backend.ts'"],
    ['agent/session/adapter.ts', "import type { Invalidator } from '../fs/operations.ts'"],
    ['agent/volumes/engine.ts', "import { FuseMounter } from './fuse/fuse-mounter.ts'"],
    ['agent/volumes/kernel/kernel-mount.ts', "import { recordId } from '../records/records.ts'"],
    ['agent/main.ts', "await import('./csi/server.ts')"],
    ['proto/xdr/reader.ts', "import { WireError } from '../../agent/base/errors.ts'"]
  ] as const
  t.deepEqual(allowed.flatMap(([file, text]) => violationsOf(file, text)), [])
})

test('nobody but the composition may import everything in the product', (t) => {
  const open = Object.entries(layers).filter(([, rule]) => (rule.use as readonly string[]).includes('test')).map(
    ([name]) => name
  )
  t.deepEqual(open, ['agent/main.ts', 'agent/roles', 'scripts', 'test'])
})
