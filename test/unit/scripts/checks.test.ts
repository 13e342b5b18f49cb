import test from 'ava'
import { folderComplaints } from '../../../scripts/checks/readmes.ts'
import { newestNeeds, symbolComplaints } from '../../../scripts/checks/symbols.ts'

test('a folder page without a section, or too long, is refused', (t) => {
  t.deepEqual(folderComplaints('agent/x', undefined), ['agent/x/README.md is missing'])
  t.deepEqual(folderComplaints('agent/x', '# x\n**Owns** a\n**Does not know** b\n## Decisions\n'), [])
  t.deepEqual(folderComplaints('agent/x', '# x\n**Owns** a\n## Decisions\n'), [
    'agent/x/README.md has no word about “Does not know”'
  ])
  t.is(folderComplaints('agent/x', `Owns Does not know Decisions${'\n.'.repeat(40)}`).length, 1)
})

test('symbol versions are compared as numbers', (t) => {
  const info =
    '  0x0010:   Name: GLIBC_2.9  Flags: none  Version: 3\n  0x0020:   Name: GLIBC_2.28  Flags: none\n  Name: GLIBCXX_3.4.21 \n'
  t.deepEqual([...newestNeeds(info)], [['GLIBC', '2.28'], ['GLIBCXX', '3.4.21']])
  t.deepEqual(symbolComplaints('x', info), [])
  t.deepEqual(symbolComplaints('x', 'Name: GLIBC_2.34 '), ['x needs GLIBC_2.34, the floor is GLIBC_2.28'])
})
