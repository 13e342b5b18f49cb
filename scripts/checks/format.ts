/**
 * How code looks: `standard` style, 120 columns. With `--write` files are rewritten; without, those that differ are
 * named.
 *
 * Owns the formatter's options, and what is kept although the formatter has no option for it: what the author wrote on
 * one line or side by side stays so while it fits, and nothing inside literals is touched. Does not break comments: a
 * line that is too wide because of one is only named.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { createFromBuffer } from '@dprint/formatter'
import typescript from '@dprint/typescript'
import ts from 'typescript'
import { projectRoot, sourceFiles } from './sources.ts'

export const columnsMax = 120
const generated = new Set(['proto/csi/descriptors.ts'])
const topFiles = ['ava.system.config.js', 'eslint.config.js']

const formatter = createFromBuffer(readFileSync(typescript.getPath()))
formatter.setConfig({ lineWidth: columnsMax, indentWidth: 2, useTabs: false, newLineKind: 'lf' }, {
  semiColons: 'asi',
  quoteStyle: 'alwaysSingle',
  quoteProps: 'preserve',
  useBraces: 'whenNotSingleLine',
  singleBodyPosition: 'maintain',
  nextControlFlowPosition: 'sameLine',
  trailingCommas: 'never',
  operatorPosition: 'maintain',
  'forOfStatement.preferHanging': true,
  'parameters.preferHanging': 'onlySingleItem',
  'arrowFunction.useParentheses': 'maintain',
  'commentLine.forceSpaceAfterSlashes': false,
  'constructor.spaceBeforeParentheses': true,
  'functionDeclaration.spaceBeforeParentheses': true,
  'functionExpression.spaceBeforeParentheses': true,
  'functionExpression.spaceAfterFunctionKeyword': true,
  'getAccessor.spaceBeforeParentheses': true,
  'method.spaceBeforeParentheses': true,
  'setAccessor.spaceBeforeParentheses': true,
  'module.sortImportDeclarations': 'maintain',
  'module.sortExportDeclarations': 'maintain',
  'importDeclaration.sortNamedImports': 'maintain',
  'exportDeclaration.sortNamedExports': 'maintain',
  'typeLiteral.separatorKind.singleLine': 'comma',
  'typeLiteral.separatorKind.multiLine': 'semiColon',
  'constructorType.spaceAfterNewKeyword': true,
  'constructSignature.spaceAfterNewKeyword': true
})

const parse = (file: string, text: string): ts.SourceFile =>
  ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true)

/** All nodes that `wanted` names, in the order of their beginning. */
function nodesOf<N extends ts.Node> (source: ts.SourceFile, wanted: (node: ts.Node) => node is N): N[] {
  const found: N[] = []
  const visit = (node: ts.Node): void => {
    if (wanted(node)) found.push(node)
    ts.forEachChild(node, visit)
  }
  visit(source)
  return found
}

interface Edit { readonly start: number, readonly end: number, readonly by: string }

const instead = (node: ts.Node, by: string): Edit => ({ start: node.getStart(), end: node.end, by })

/** `text` with parts replaced, in the order of their beginning. */
function replaced (text: string, edits: readonly Edit[]): string {
  let result = ''
  let at = 0
  for (const { start, end, by } of edits) {
    result += text.slice(at, start) + by
    at = end
  }
  return result + text.slice(at)
}

const isOneLine = (node: ts.Node): boolean => !node.getText().includes('\n')

const columnOf = (text: string, at: number): number => at - (text.lastIndexOf('\n', at - 1) + 1)

/** What is written between two brackets, one after the other. */
interface Parts { readonly parts: readonly ts.Node[], readonly separator: string, readonly padding: string }

function partsOf (node: ts.Node): Parts | undefined {
  if (ts.isBlock(node)) return { parts: node.statements, separator: '; ', padding: ' ' }
  if (ts.isInterfaceDeclaration(node) || ts.isTypeLiteralNode(node)) {
    return { parts: node.members, separator: ', ', padding: ' ' }
  }
  if (ts.isObjectLiteralExpression(node)) return { parts: node.properties, separator: ', ', padding: ' ' }
  if (ts.isArrayLiteralExpression(node)) return { parts: node.elements, separator: ', ', padding: '' }
  return undefined
}

/** The node on one line, or undefined when a part has several lines, a comment would be lost, or it would be too
 * wide. */
function joined (text: string, node: ts.Node, { parts, separator, padding }: Parts): Edit | undefined {
  const [first, last] = [parts[0], parts.at(-1)]
  if (first === undefined || last === undefined) return undefined
  const open = text.slice(node.getStart(), first.getStart()).trimEnd()
  const gaps = parts.slice(1).map((part, index) => text.slice(parts[index]?.end, part.getStart()))
  const close = text.slice(last.end, node.end)
  if (
    open.includes('\n') || !parts.every(isOneLine) || !/^[\s;,]*[}\]]$/.test(close) ||
    gaps.some((gap) => /[^\s;,]/.test(gap))
  ) return undefined
  const inner = parts.map((part) => part.getText().replace(/[;,]$/, '')).join(separator)
  const by = `${open}${padding}${inner}${padding}${close.at(-1) ?? ''}`
  const after = `${text}\n`.indexOf('\n', node.end) - node.end
  return columnOf(text, node.getStart()) + by.length + after <= columnsMax ? instead(node, by) : undefined
}

/** The one statement without the braces that were put around it, if it fits behind its `if (…)`. */
function withoutBraces (text: string, block: ts.Block): Edit | undefined {
  const [only] = block.statements
  if (only === undefined || !isOneLine(only) || !/^(\n|$)/.test(text.slice(block.end))) return undefined
  if (
    !/^\{\s*$/.test(text.slice(block.getStart(), only.getStart())) || !/^\s*\}$/.test(text.slice(only.end, block.end))
  ) return undefined
  const by = only.getText()
  return columnOf(text, block.getStart()) + by.length <= columnsMax ? instead(block, by) : undefined
}

/** What may stand side by side on each of several lines. */
interface Row { readonly items: readonly ts.Node[], readonly separator: string }

function rowOf (node: ts.Node): Row | undefined {
  if (ts.isArrayLiteralExpression(node)) return { items: node.elements, separator: ', ' }
  if (ts.isObjectLiteralExpression(node)) return { items: node.properties, separator: ', ' }
  if (ts.isNamedImports(node) || ts.isNamedExports(node)) return { items: node.elements, separator: ', ' }
  if (ts.isUnionTypeNode(node)) return { items: node.types, separator: ' | ' }
  if (ts.isCallExpression(node) || ts.isNewExpression(node)) return { items: node.arguments ?? [], separator: ', ' }
  return ts.isFunctionLike(node) ? { items: node.parameters, separator: ', ' } : undefined
}

/** For each item but the first: whether it begins on the line where the one before ends. Nothing is shared in a list
 * that begins behind its bracket, except for arrays and objects. */
function sharedLines (text: string, node: ts.Node, { items }: Row): boolean[] {
  const [first] = items
  const hangs = first !== undefined && !/\n[ |]*$/.test(text.slice(0, first.getStart()))
  if (hangs && !ts.isArrayLiteralExpression(node) && !ts.isObjectLiteralExpression(node)) return []
  return items.slice(1).map((item, index) => !text.slice(items[index]?.end, item.getStart()).includes('\n'))
}

/** Items side by side where `shared` says so, as far as they fit and have one line each. */
function filled (text: string, { items, separator }: Row, shared: readonly boolean[]): Edit | undefined {
  const [first, last] = [items[0], items.at(-1)]
  if (first === undefined || last === undefined) return undefined
  let by = ''
  let column = columnOf(text, first.getStart())
  items.forEach((item, index) => {
    const own = item.getText()
    by += own
    column = own.includes('\n') ? Infinity : column + own.length
    const next = items[index + 1]
    if (next === undefined) return
    const gap = text.slice(item.end, next.getStart())
    // A comma may follow the next one.
    const fits = isOneLine(next) && column + separator.length + next.getText().length + 1 <= columnsMax
    const kept = shared[index] === true && fits && gap.trim() === separator.trim() ? separator : gap
    by += kept
    column = kept.includes('\n') ? kept.length - kept.lastIndexOf('\n') - 1 : column + kept.length
  })
  return { start: first.getStart(), end: last.end, by }
}

/** How `made`, part of `text`, is laid out as `before` is in `written`, where the formatter has another opinion. */
function asWritten (written: string, before: ts.Node, text: string, made: ts.Node): Edit | undefined {
  if (ts.isBlock(made) && !ts.isBlock(before)) return withoutBraces(text, made)
  if (isOneLine(made)) return undefined
  const parts = partsOf(made)
  if (parts !== undefined && isOneLine(before)) {
    const edit = joined(text, made, parts)
    if (edit !== undefined) return edit
  }
  const [rowBefore, row] = [rowOf(before), rowOf(made)]
  if (rowBefore === undefined || row === undefined) return undefined
  const shared = sharedLines(written, before, rowBefore)
  return shared.includes(true) ? filled(text, row, shared) : undefined
}

const childrenOf = (node: ts.Node): ts.Node[] => {
  const children: ts.Node[] = []
  ts.forEachChild(node, (child) => { if (!ts.isEmptyStatement(child)) children.push(child) })
  return children
}

/** What is inside braces around one statement, or inside parentheses. */
function inside (node: ts.Node): ts.Node | undefined {
  if (ts.isParenthesizedExpression(node)) return node.expression
  if (ts.isParenthesizedTypeNode(node)) return node.type
  return ts.isBlock(node) && node.statements.length === 1 ? node.statements[0] : undefined
}

/** Calls `visit` with each node of `made`, inner ones last, and the one of `written` that it came from. Braces may have
 * been added, parentheses removed. */
function together (written: ts.Node, made: ts.Node, visit: (written: ts.Node, made: ts.Node) => void): void {
  if (written.kind !== made.kind) {
    const [without, inner] = [inside(written), inside(made)]
    if (inner !== undefined) {
      visit(written, made)
      together(written, inner, visit)
    } else if (without !== undefined) together(without, made, visit)
    else throw new Error(`the formatter made ${made.getText()} of ${written.getText()}`)
    return
  }
  visit(written, made)
  const [before, after] = [childrenOf(written), childrenOf(made)]
  if (before.length !== after.length) throw new Error(`the formatter made ${made.getText()} of ${written.getText()}`)
  before.forEach((child, index) => { together(child, after[index] as ts.Node, visit) })
}

/** `formatted` laid out as `written` where that is possible too. Inner parts first: outer ones depend on them. */
function rejoined (file: string, written: string, formatted: string): string {
  const original = parse(file, written)
  let text = formatted
  for (;;) {
    const pairs: Array<[ts.Node, ts.Node]> = []
    together(original, parse(file, text), (before, made) => { pairs.push([before, made]) })
    const edits: Edit[] = []
    for (const [before, made] of pairs.reverse()) {
      // Not beside another one in its line: each is measured against the text as it is.
      if (edits[0] !== undefined && !text.slice(made.end, Math.max(made.end, edits[0].start)).includes('\n')) continue
      const edit = asWritten(written, before, text, made)
      if (edit !== undefined && edit.by !== text.slice(edit.start, edit.end)) edits.unshift(edit)
    }
    if (edits.length === 0) return text
    text = replaced(text, edits)
  }
}

/** Spaces that `standard` has and the formatter has no option for. */
function withSpaces (file: string, text: string): string {
  const spots = nodesOf(parse(file, text), (node): node is ts.Node => node.kind !== ts.SyntaxKind.Unknown).flatMap(
    (node) => {
      if (ts.isMethodSignature(node)) {
        return [text.indexOf('(', node.typeParameters?.end ?? node.questionToken?.end ?? node.name.end)]
      }
      if (ts.isMethodDeclaration(node) && node.asteriskToken !== undefined) return [node.asteriskToken.end]
      return ts.isBlock(node) && /^\{\/\*.*\*\/\}$/.test(node.getText()) ? [node.getStart() + 1, node.end - 1] : []
    }
  )
  return replaced(
    text,
    spots.filter((at) => text[at - 1] !== ' ' && text[at] !== ' ').sort((a, b) => a - b).map((at) => ({
      start: at, end: at, by: ' '
    }))
  )
}

/** The sentence that a call with a function begins with, as in `test('…', () => …)`: it stays on its line. */
function isTitle (node: ts.Node): boolean {
  const call = node.parent
  return ts.isCallExpression(call) && ts.isExpressionStatement(call.parent) && call.arguments[0] === node &&
    call.arguments.length > 1 &&
    call.arguments.slice(1).some((argument) => ts.isArrowFunction(argument))
}

const isLiteral = (node: ts.Node): node is ts.StringLiteral | ts.TemplateLiteral =>
  ts.isStringLiteral(node) || ts.isTemplateLiteral(node)

/** Literals that lie in no other. The formatter does not see them: it would break them inside, or break the line before
 * them. */
function literalsOf (source: ts.SourceFile): ts.Node[] {
  let end = 0
  return nodesOf(source, isLiteral).filter((node) => {
    if (node.getStart() < end) return false
    end = node.end
    return true
  })
}

/** Double quotes are for what has single ones inside. */
const quoted = (literal: string): string => /^"[^'"\\]*"$/.test(literal) ? `'${literal.slice(1, -1)}'` : literal

/** Room for what follows a title: `, async (t) => {`. */
const behindTitle = 20

/** As wide as the first line of what it stands for. Of a wide title only so much that it is no reason for a break. */
function mask (node: ts.Node, text: string): string {
  const [first = '', ...more] = node.getText().slice(1, -1).split('\n')
  const isWide = isTitle(node) && more.length === 0 &&
    columnOf(text, node.getStart()) + node.getText().length + behindTitle > columnsMax
  const quote = ts.isStringLiteral(node) ? '\'' : '`'
  return `${quote}${'x'.repeat(isWide ? Math.min(first.length, 10) : first.length)}${quote}`
}

function formattedOnce (file: string, text: string): string {
  const literals = literalsOf(parse(file, text))
  const masked = replaced(text, literals.map((node) => instead(node, mask(node, text))))
  const layout = withSpaces(file, rejoined(file, masked, formatter.formatText({ filePath: file, fileText: masked })))
  const places = literalsOf(parse(file, layout))
  if (places.length !== literals.length) throw new Error(`${file}: the formatter lost a literal`)
  return replaced(layout, places.map((node, index) => instead(node, quoted(literals[index]?.getText() ?? ''))))
}

/** The formatter's answer to its own answer may be another one; the third is the last so far. */
export function formatted (file: string, text: string): string {
  let last = text
  for (let times = 0; times < 5; times++) {
    const next = formattedOnce(file, last)
    if (next === last) return last
    last = next
  }
  throw new Error(`${file}: the formatter does not come to an end`)
}

/** Lines that are too wide for another reason than a literal, which nobody can break and which titles are searched
 * by. */
export function wideLines (file: string, text: string): number[] {
  const source = parse(file, text)
  const lines = text.split('\n')
  const literals = lines.map(() => 0)
  for (
    const node of nodesOf(
      source,
      (node): node is ts.Node =>
        ts.isStringLiteral(node) || ts.isTemplateLiteral(node) || ts.isRegularExpressionLiteral(node)
    )
  ) {
    const [start, end] = [node.getStart(), node.end].map((at) => source.getLineAndCharacterOfPosition(at))
    for (let line = start?.line ?? 0; line <= (end?.line ?? 0); line++) {
      const from = line === start?.line ? start.character : 0
      const to = line === end?.line ? end.character : lines[line]?.length ?? 0
      // A short one further left is not the reason.
      if (to > columnsMax - behindTitle) literals[line] = Math.max(literals[line] ?? 0, to - from)
    }
  }
  return lines.flatMap((line, index) => line.length - (literals[index] ?? 0) > columnsMax ? [index + 1] : [])
}

if (import.meta.main) {
  const writes = process.argv.includes('--write')
  const files = [...sourceFiles(), ...topFiles].filter((file) => !generated.has(file))
  let different = 0
  let wide = 0
  for (const file of files) {
    const place = path.join(projectRoot, file)
    const text = readFileSync(place, 'utf8')
    const better = formatted(file, text)
    if (better !== text) {
      different++
      if (writes) writeFileSync(place, better)
      console.error(`${file} ${writes ? 'is rewritten' : 'is not formatted'}`)
    }
    for (const line of wideLines(file, better)) {
      wide++
      console.error(`${file}:${line} is wider than ${columnsMax} columns`)
    }
  }
  console.log(
    `format: ${files.length} files, ${different} ${writes ? 'rewritten' : 'not formatted'}, ${wide} lines too wide`
  )
  if (different > 0 && !writes) {
    console.error('Run `npm run format` (scripts/checks/format.ts --write) and commit what it does.')
  }
  if (wide > 0) console.error('Comments are not broken by a machine: break the lines named above by hand.')
  process.exitCode = (different > 0 && !writes) || wide > 0 ? 1 : 0
}
