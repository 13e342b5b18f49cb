/**
 * Who may import whom: the import rules of ARCHITECTURE.md, checked.
 *
 * Owns the table. Looks at every kind of import: static, re-exported, dynamic, and types only. Does not know what the
 * folders do.
 */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import ts from 'typescript'
import { projectRoot, sourceFiles } from './sources.ts'

interface Rule {
  /** Folders (or single files) of the project that may be imported at run time. */
  readonly use: readonly string[]
  /** Folders of which only types may be imported. */
  readonly types?: readonly string[]
  /** Node modules and npm packages; absent: any that package.json lists as a dependency. */
  readonly outside?: readonly string[]
}

const anything: Rule = { use: ['agent', 'flex', 'proto', 'scripts', 'test', 'package.json'] }
const wireOutside = ['node:buffer']
/** What a client of ours or of the kernel's may know of the engine. */
const mounterBorder = ['mounter.ts', 'operations.ts', 'events.ts', 'failures.ts', 'records'].map((name) =>
  `agent/volumes/${name}`
)

/** The longest matching key decides. `agent/base` may be imported by everybody and is therefore not repeated.
 * Single files are borders: the words that both sides speak, constants included. */
export const layers = {
  'proto': { use: ['proto'], outside: wireOutside },
  'proto/csi': {
    use: [],
    outside: [
      'node:buffer', 'node:fs', 'node:path', 'node:url', 'node:sea', 'node:module', '@grpc/proto-loader',
      '@grpc/grpc-js'
    ]
  },
  'agent/base': { use: [], outside: ['node:crypto', 'node:os', 'node:util'] },
  'agent/fs': { use: [], outside: ['node:buffer', 'node:crypto'] },
  'agent/rpc': { use: ['proto/xdr', 'proto/rpc', 'proto/portmap'] },
  'agent/nfs': {
    use: ['agent/rpc', 'proto/xdr', 'proto/rpc', 'proto/portmap', 'proto/mount3', 'proto/nfs3', 'agent/fs/backend.ts'],
    types: ['agent/fs']
  },
  'agent/session': { use: ['proto/fuse', 'agent/host'], types: ['agent/fs'] },
  'agent/host': { use: [] },
  'agent/volumes': { use: ['agent/volumes', 'agent/host', 'agent/session/control.ts'], types: ['agent/session'] },
  'agent/volumes/spec': { use: [] },
  'agent/volumes/policy': { use: ['agent/volumes/spec', 'agent/volumes/records'] },
  'agent/volumes/records': { use: ['agent/volumes/operations.ts', 'agent/host'] },
  // The two clients: behind the same border, and never one by the other.
  'agent/volumes/fuse': {
    use: [...mounterBorder, 'agent/host', 'agent/session/control.ts'],
    types: ['agent/session']
  },
  'agent/volumes/kernel': { use: [...mounterBorder, 'agent/host'] },
  'agent/status': { use: [], types: ['proto/csi', 'agent/volumes', 'agent/observe'], outside: ['node:crypto'] },
  'agent/csi': { use: ['proto/csi', 'agent/volumes', 'agent/host/root-folder.ts'] },
  'agent/observe': { use: ['proto/csi'], types: ['agent/volumes', 'agent/session', 'agent/fs', 'agent/rpc'] },
  'agent/cli': {
    use: ['proto/csi', 'agent/host', 'agent/observe', 'agent/status'], types: ['agent/volumes', 'agent/session']
  },
  'agent/main.ts': anything,
  'agent/roles': anything,
  'flex': { use: ['proto/csi'] },
  'scripts': anything,
  'test': anything
} as const satisfies Record<string, Rule>

interface Import {
  readonly specifier: string
  readonly line: number
  readonly typesOnly: boolean
}

/** Whether `file` is `folder` itself or lies in it. */
const isIn = (file: string, folder: string): boolean => file === folder || file.startsWith(`${folder}/`)

const longest = (found: string, next: string): string => next.length > found.length ? next : found

function ruleOf (file: string): { name: string, rule: Rule } | undefined {
  const name = Object.keys(layers).filter((folder) => isIn(file, folder)).reduce(longest, '')
  return name === '' ? undefined : { name, rule: (layers as Record<string, Rule>)[name] as Rule }
}

/** Only types come from this clause: it vanishes when types are stripped. */
function isTypesOnly (clause: ts.ImportClause | undefined): boolean {
  if (clause === undefined) return false
  if (clause.phaseModifier === ts.SyntaxKind.TypeKeyword) return true
  const named = clause.namedBindings
  return clause.name === undefined && named !== undefined && ts.isNamedImports(named) &&
    named.elements.length > 0 && named.elements.every((element) => element.isTypeOnly)
}

/** Every module that `text` names, and those it computes (specifier ''). */
export function importsOf (file: string, text: string): Import[] {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true)
  const found: Import[] = []
  const note = (node: ts.Node, module: ts.Node | undefined, typesOnly: boolean): void => {
    const specifier = module !== undefined && ts.isStringLiteralLike(module) ? module.text : ''
    found.push({ specifier, typesOnly, line: source.getLineAndCharacterOfPosition(node.getStart()).line + 1 })
  }
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) note(node, node.moduleSpecifier, isTypesOnly(node.importClause))
    else if (ts.isExportDeclaration(node) && node.moduleSpecifier !== undefined) {
      note(node, node.moduleSpecifier, node.isTypeOnly)
    } else if (ts.isImportTypeNode(node)) {
      note(node, ts.isLiteralTypeNode(node.argument) ? node.argument.literal : undefined, true)
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      note(node, node.arguments[0], false)
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return found
}

function complaint (file: string, { specifier, typesOnly }: Import): string | undefined {
  const own = ruleOf(file)
  if (own === undefined) return 'lies in no folder that the table knows'
  if (specifier === '') return own.rule === anything ? undefined : 'imports a module whose name is computed'
  if (!specifier.startsWith('.')) {
    const { outside } = own.rule
    if (outside === undefined || typesOnly) return undefined
    return outside.includes(specifier) ? undefined : `${own.name} may not import ${specifier}`
  }
  const target = path.posix.normalize(path.posix.join(path.posix.dirname(file), specifier))
  if (isIn(target, 'agent/base') || ruleOf(target)?.name === own.name) return undefined
  if (own.rule.use.some((folder) => isIn(target, folder))) return undefined
  if (own.rule.types?.some((folder) => isIn(target, folder)) === true) {
    return typesOnly ? undefined : `${own.name} may import only types from ${target}`
  }
  return `${own.name} may not import ${target}`
}

/** One line for each import of `file` that the table does not allow. */
export function violationsOf (file: string, text: string): string[] {
  return importsOf(file, text).flatMap((found) => {
    const wrong = complaint(file, found)
    return wrong === undefined ? [] : [`${file}:${found.line} ${wrong}`]
  })
}

if (import.meta.main) {
  const files = sourceFiles()
  const violations = files.flatMap((file) => violationsOf(file, readFileSync(path.join(projectRoot, file), 'utf8')))
  for (const violation of violations) console.error(violation)
  console.log(`layers: ${files.length} files, ${violations.length} forbidden imports`)
  process.exitCode = violations.length === 0 ? 0 : 1
}
