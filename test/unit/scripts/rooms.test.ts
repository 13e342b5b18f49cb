import test from 'ava'
import { arrowsOf, circlesOf, showCircle, type Arrow } from '../../../scripts/checks/rooms.ts'

const arrow = (text: string): Arrow => {
  const [from = '', to = ''] = text.split(' ')
  return { from, to, line: 1 }
}
const roomsIn = (...arrows: string[]): (readonly string[])[] => circlesOf(arrows.map(arrow)).map(({ rooms }) => rooms)

test('imports of types are arrows like any other, packages are none', (t) => {
  const text = "import type { B } from './b.ts'\nimport fs from 'node:fs'\nconst c = await import('../c.ts')\n"
  t.deepEqual(arrowsOf('agent/x/a.ts', text), [
    { from: 'agent/x/a.ts', to: 'agent/x/b.ts', line: 1 },
    { from: 'agent/x/a.ts', to: 'agent/c.ts', line: 3 }
  ])
})

test('arrows that all run one way are no circle, however many meet', (t) => {
  t.deepEqual(
    roomsIn(
      'agent/x/a.ts agent/x/b.ts',
      'agent/x/a.ts agent/x/c.ts',
      'agent/x/b.ts agent/x/c.ts',
      'agent/x/c.ts agent/y/d.ts'
    ),
    []
  )
})

test('files that lead back to each other are a circle, and a file beside it is not in it', (t) => {
  t.deepEqual(
    roomsIn(
      'agent/x/a.ts agent/x/b.ts',
      'agent/x/b.ts agent/x/c.ts',
      'agent/x/c.ts agent/x/a.ts',
      'agent/x/d.ts agent/x/a.ts'
    ),
    [
      ['agent/x/a.ts', 'agent/x/b.ts', 'agent/x/c.ts']
    ]
  )
})

test('an arrow that runs back up between rooms is found although no file leads back to itself', (t) => {
  t.deepEqual(roomsIn('agent/x/up/a.ts agent/x/down/b.ts', 'agent/x/down/c.ts agent/x/up/d.ts'), [[
    'agent/x/down', 'agent/x/up'
  ]])
})

test('a room that imports a file of the folder it lies in, which imports the room, is found', (t) => {
  t.deepEqual(roomsIn('agent/x/engine.ts agent/x/up/a.ts', 'agent/x/up/b.ts agent/x/engine.ts'), [[
    'agent/x/engine.ts', 'agent/x/up'
  ]])
})

test('agent and proto are corridors: their rooms may stand below and above those of others', (t) => {
  t.deepEqual(
    roomsIn(
      'proto/xdr/a.ts agent/base/b.ts',
      'agent/rpc/c.ts proto/xdr/a.ts',
      'flex/d.ts agent/base/b.ts',
      'agent/roles/e.ts flex/d.ts'
    ),
    []
  )
  t.deepEqual(roomsIn('agent/rpc/a.ts agent/nfs/b.ts', 'agent/nfs/c.ts agent/rpc/d.ts'), [['agent/nfs', 'agent/rpc']])
})

test('a circle is told with the imports it consists of', (t) => {
  const circles = circlesOf([
    arrow('flex/a.ts flex/b.ts'), { from: 'flex/b.ts', to: 'flex/a.ts', line: 7 }, arrow('flex/c.ts flex/a.ts')
  ])
  t.deepEqual(circles.flatMap(showCircle), [
    'flex/a.ts, flex/b.ts import each other:',
    '  flex/a.ts:1 imports flex/b.ts',
    '  flex/b.ts:7 imports flex/a.ts'
  ])
})
