import test from 'ava'
import { compareVersions, isSuccessor } from '../../../../agent/roles/handover.ts'

test('versions are ordered as semantic versioning orders them', (t) => {
  const ordered = ['0.1.0-alpha', '0.1.0-beta', '0.1.0', '0.1.1', '0.2.0', '0.10.0', '1.0.0']
  for (const [n, a] of ordered.entries()) {
    for (const [m, b] of ordered.entries()) t.is(compareVersions(a, b), Math.sign(n - m), `${a} ${b}`)
  }
  t.is(compareVersions('1.0.0+build', '1.0.0'), 0)
  t.is(compareVersions('nonsense', '0.0.0'), 0)
})

for (const [newcomer, incumbent, takesOver] of [
  [{ version: '0.2.0', stays: true }, { version: '0.1.0', stays: true }, true],
  [{ version: '0.1.0', stays: true }, { version: '0.1.0', stays: true }, false],
  [{ version: '0.1.0', stays: true }, { version: '0.2.0', stays: true }, false],
  [{ version: '0.1.0', stays: true }, { version: '0.1.0', stays: false }, true],
  [{ version: '0.1.0', stays: true }, { version: '0.2.0', stays: false }, false],
  [{ version: '0.2.0', stays: false }, { version: '0.1.0', stays: false }, true],
  [{ version: '0.1.0', stays: false }, { version: '0.1.0', stays: false }, false],
  [{ version: '0.2.0', stays: false }, { version: '0.1.0', stays: true }, false]
] as const) {
  const named = ({ version, stays }: typeof newcomer | typeof incumbent): string =>
    `${version} that ${stays ? 'stays' : 'leaves when idle'}`
  test(`${named(newcomer)} ${takesOver ? 'takes over from' : 'leaves the node to'} ${named(incumbent)}`, (t) => { t.is(isSuccessor(newcomer, incumbent), takesOver) })
}
