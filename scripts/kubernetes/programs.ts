/**
 * Kubernetes' own programs, built once from the Go module in test/cluster/tools.
 *
 * Owns the pinned version and where the programs lie: a folder named after what went in, so that a new version is built
 * beside the old one and a half-made build is never used. Does not know how they are run.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'

const root = path.resolve(import.meta.dirname, '../..')
const moduleFolder = path.join(root, 'test/cluster/tools')
const buildFolder = path.join(root, 'build/cluster')

const programs = ['kubelet', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubectl'] as const

/** The version that go.mod asks for. */
export const kubernetesVersion: string =
  /^require k8s\.io\/kubernetes (v[\d.]+)$/m.exec(readFileSync(path.join(moduleFolder, 'go.mod'), 'utf8'))?.[1] ?? ''

const flags = [
  '-trimpath',
  // gRPC's traces reach methods by name, which keeps the linker from dropping what nobody calls.
  '-tags', 'grpcnotrace',
  // Without symbols the five are 400 MB instead of 600.
  '-ldflags', `-s -w -X k8s.io/component-base/version.gitVersion=${kubernetesVersion}`
]

function hashOfInputs (): string {
  const hash = createHash('sha256').update(JSON.stringify([programs, flags]))
  for (const name of ['go.mod', 'go.sum', 'tools.go']) hash.update(readFileSync(path.join(moduleFolder, name)))
  return hash.digest('hex').slice(0, 8)
}

/** Where the programs are once they are built. */
export const programFolder: string = path.join(buildFolder, `${kubernetesVersion}-${hashOfInputs()}`)

export const areProgramsBuilt = (): boolean => existsSync(path.join(programFolder, 'kubectl'))

/**
 * Builds what is missing. Three to six minutes on two cores the first time, and 2.5 GB of memory.
 * @throws Error when Go fails; its own words are on standard error.
 */
export async function buildPrograms (go: string): Promise<void> {
  if (areProgramsBuilt()) return
  const unfinished = path.join(buildFolder, `unfinished-${process.pid}`)
  mkdirSync(unfinished, { recursive: true })
  const packages = programs.map((name) => `k8s.io/kubernetes/cmd/${name}`)
  const child = spawn(go, ['build', ...flags, '-o', `${unfinished}/`, ...packages], {
    cwd: moduleFolder,
    // The module's own go line decides, and static programs run in any container.
    env: { ...process.env, GOTOOLCHAIN: 'local', CGO_ENABLED: '0', GOFLAGS: '-mod=readonly' },
    stdio: ['ignore', 'inherit', 'inherit']
  })
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', resolve)
  })
  if (code !== 0) {
    rmSync(unfinished, { recursive: true, force: true })
    throw new Error(
      `building Kubernetes ${kubernetesVersion}: ${go} build ended with ${code ?? 'a signal'}; it needs the network or Go's module cache, 2.5 GB of memory and 2 GB of disk`
    )
  }
  for (const other of readdirSync(buildFolder).filter((name) => name.startsWith('v'))) {
    rmSync(path.join(buildFolder, other), { recursive: true, force: true })
  }
  renameSync(unfinished, programFolder)
}

if (import.meta.main) {
  const [argument = 'go'] = process.argv.slice(2)
  if (argument === '--is-built') process.exitCode = areProgramsBuilt() ? 0 : 1
  else await buildPrograms(argument)
}
