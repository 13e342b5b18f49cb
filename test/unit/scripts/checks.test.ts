import test from 'ava'
import { folderComplaints } from '../../../scripts/checks/readmes.ts'
import { hardeningComplaints, type Listing } from '../../../scripts/checks/hardening.ts'
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

test('an addon without one of its guards is named with the guard', (t) => {
  const good: Listing = {
    headers: '  GNU_STACK  0x000000 0x0 0x0 0x000000 0x000000 RW  0x10\n  GNU_RELRO  0x00a000',
    dynamic: ' 0x0000000000000018 (BIND_NOW)\n',
    symbols:
      '  7: 0 FUNC GLOBAL DEFAULT UND __stack_chk_fail@GLIBC_2.4\n  8: 0 FUNC GLOBAL DEFAULT UND __memcpy_chk@GLIBC_2.3.4\n',
    code:
      '0000000000003000 <napi_register_module_v1@@Base>:\n    3000:\tendbr64\n    3004:\tsub    $0x1000,%rsp\n    300b:\torq    $0x0,(%rsp)\n'
  }
  t.deepEqual(hardeningComplaints('x', good), [])
  const spoiled: readonly (readonly [Partial<Listing>, RegExp])[] = [
    [{ headers: good.headers.replace('GNU_RELRO', '') }, /relro/],
    [{ headers: good.headers.replace('RW ', 'RWE') }, /executable stack/],
    [{ dynamic: '' }, /-z now/], [{ symbols: good.symbols.replace('__stack_chk_fail', 'x') }, /stack-protector/],
    [{ symbols: good.symbols.replace('__memcpy_chk', 'memcpy') }, /FORTIFY/],
    [{ code: good.code.replace('endbr64', 'push   %rbp') }, /cf-protection/],
    [{ code: good.code.replace('0x1000', '0x5020') }, /stack-clash/]
  ]
  for (const [changes, words] of spoiled) {
    const complaints = hardeningComplaints('x', { ...good, ...changes })
    t.is(complaints.length, 1)
    t.regex(complaints[0] ?? '', words)
  }
})
