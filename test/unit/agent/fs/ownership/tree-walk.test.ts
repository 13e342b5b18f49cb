/** A tree of any size gets a group: judged by what the server has afterwards, and by the calls it was sent. */
import test from 'ava'
import { toFileName, type FileName } from '../../../../../agent/base/brands.ts'
import { Errno, isErrno } from '../../../../../agent/base/errno.ts'
import { groupWalkLimits } from '../../../../../agent/base/limits.ts'
import type { Backend, DirectoryPage } from '../../../../../agent/fs/backend.ts'
import { groupChanges, type GroupProgress } from '../../../../../agent/fs/ownership/group-changes.ts'
import { TreeWalk, type WalkEnd, type WalkLimits } from '../../../../../agent/fs/ownership/tree-walk.ts'
import { World } from '../../../../peers/filesystem-user.ts'
import { MemoryServer, Silence, rootCredential } from '../../../../peers/memory-backend.ts'

const wish = { group: 2000, readOnly: false, except: [] as (readonly FileName[])[] }

async function give (world: World, given = wish): Promise<GroupProgress & { readonly end: WalkEnd }> {
  const { server } = world
  const root = { handle: server.root.handle, attributes: server.attributesOf(server.root) }
  const walk = world.fs.giveTree(root, given, rootCredential)
  return { end: await walk.ended, ...walk.progress() }
}

const facts = (server: MemoryServer, path: string): string => {
  const node = server.node(path)
  return node === undefined ? 'not there' : `${node.gid} ${node.mode.toString(8)}`
}

/** `folders` folders in the root, one in the other from the second on where `isDeep`, with `files` files each. */
function tree (server: MemoryServer, { folders, files, isDeep = false }: {
  folders: number
  files: number
  isDeep?: boolean
}): string[] {
  const paths: string[] = []
  let parent = ''
  for (let n = 0; n < folders; n++) {
    const folder = `${parent}/d${n}`
    server.makeFolder(folder)
    paths.push(folder)
    for (let m = 0; m < files; m++) {
      server.put(`${folder}/f${m}`, '')
      paths.push(`${folder}/f${m}`)
    }
    if (isDeep) parent = folder
  }
  return paths
}

test('what an object needs, and the calls it takes, as kubelet has it', (t) => {
  const table = [
    ['file', 0o644, 0, [{ gid: 2000, mode: 0o664 }]],
    ['file', 0o664, 0, [{ gid: 2000 }]],
    ['file', 0o600, 2000, [{ mode: 0o660 }]],
    ['file', 0o4775, 0, [{ gid: 2000 }, { mode: 0o4775 }]],
    ['file', 0o660, 2000, []],
    ['directory', 0o755, 0, [{ gid: 2000, mode: 0o2775 }]],
    ['directory', 0o2770, 2000, []],
    ['symlink', 0o777, 0, [{ gid: 2000 }]],
    ['fifo', 0o600, 0, [{ gid: 2000, mode: 0o660 }]]
  ] as const
  for (const [kind, mode, gid, calls] of table) {
    t.deepEqual(groupChanges(wish, { kind, mode, gid }), calls, `${kind} ${mode.toString(8)} ${gid}`)
  }
  t.deepEqual(groupChanges({ ...wish, readOnly: true }, { kind: 'file', mode: 0o600, gid: 0 }), [{
    gid: 2000, mode: 0o640
  }])
  t.deepEqual(groupChanges({ ...wish, readOnly: true }, { kind: 'directory', mode: 0o700, gid: 2000 }), [{
    mode: 0o2750
  }])
})

test('a hundred thousand objects get the group, once; the root is left alone', async (t) => {
  const world = new World()
  const { server } = world
  server.pageEntries = 500
  const paths = tree(server, { folders: 1000, files: 99 })
  const first = await give(world)
  t.like(first, { end: 'whole', seen: 100_000, changed: 100_000, refused: 0, elsewhere: 0 })
  t.is(server.count('setattr'), 100_000)
  t.true(paths.every((path) => facts(server, path) === (path.includes('/f') ? '2000 664' : '2000 2775')))
  t.is(facts(server, '/'), '0 755')
  t.is(world.fs.gauges().inodes, 1, 'nothing of it is kept')
  const second = await give(world)
  t.like(second, { end: 'whole', seen: 100_000, changed: 0 })
  t.is(server.count('setattr'), 100_000, 'what has the group is passed over')
})

/** The most that was under way, and the most folders that were found and not yet listed. */
function watched (backend: Backend): { backend: Backend, most: { calls: number, waiting: number, listings: number } } {
  const most = { calls: 0, waiting: 0, listings: 0 }
  const under = { calls: 0, listings: 0 }
  const found = new Set<string>()
  const counted = async <T>(work: Promise<T>): Promise<T> => {
    most.calls = Math.max(most.calls, ++under.calls)
    try {
      return await work
    } finally {
      under.calls -= 1
    }
  }
  return {
    most,
    backend: {
      ...backend,
      get capabilities () { return backend.capabilities },
      get answers () { return backend.answers },
      setattr: async (...args) => await counted(backend.setattr(...args)),
      readdir: async (...args) => {
        found.delete(args[0])
        most.listings = Math.max(most.listings, ++under.listings)
        const page = await counted(backend.readdir(...args))
        under.listings -= 1
        for (const { attributes, handle } of (page as DirectoryPage).entries) {
          if (attributes?.kind === 'directory' && handle !== undefined) found.add(handle)
        }
        most.waiting = Math.max(most.waiting, found.size)
        return page
      }
    }
  }
}

for (const isDeep of [false, true]) {
  test(`${isDeep ? 'a deep' : 'a wide'} tree is walked with as few calls and waiting folders as the limits say`, async (t) => {
    const server = new MemoryServer()
    server.pageEntries = 10
    server.pause = async () => { await new Promise((resolve) => { setImmediate(resolve) }) }
    const paths = tree(server, { folders: 400, files: 5, isDeep })
    const limits: WalkLimits = { listings: 3, visits: 7, folders: 4, depth: 1000 }
    const { backend, most } = watched(server.backend())
    const seen = new Set<string>()
    const walk = new TreeWalk({ handle: server.root.handle, attributes: server.attributesOf(server.root) }, {
      backend: { ...backend, answers: 0, capabilities: backend.capabilities, isClosed: false },
      credential: rootCredential, limits,
      visit: async ({ handle }) => {
        seen.add(handle)
        const answer = await backend.setattr(handle, { gid: 2000 }, rootCredential)
        return isErrno(answer) ? answer : undefined
      }
    })
    t.is(await walk.ended, 'whole')
    t.is(seen.size, paths.length)
    t.true(paths.every((path) => server.node(path)?.gid === 2000))
    t.true(most.listings <= limits.listings, `${most.listings} listings`)
    t.true(most.calls <= limits.listings + limits.visits, `${most.calls} calls`)
    t.true(most.calls > limits.listings, 'many at a time')
    t.true(most.waiting <= limits.folders + limits.listings * server.pageEntries, `${most.waiting} folders wait`)
  })
}

test('a folder deeper than any path is named and left alone, and the walk ends', async (t) => {
  const server = new MemoryServer()
  tree(server, { folders: 5, files: 1, isDeep: true })
  const backend = server.backend()
  const walk = new TreeWalk({ handle: server.root.handle, attributes: server.attributesOf(server.root) }, {
    backend: { ...backend, answers: 0, capabilities: backend.capabilities, isClosed: false },
    credential: rootCredential,
    limits: { ...groupWalkLimits, depth: 3 }, visit: () => undefined
  })
  t.is(await walk.ended, 'whole')
  t.like(walk.firstRefusal, { name: 'd3', errno: Errno.ENAMETOOLONG })
})

test('a link gets the group itself, and what it leads to does not; another file system is left alone', async (t) => {
  const world = new World()
  const { server } = world
  const backend = server.backend()
  await backend.symlink(server.root.handle, toFileName('link'), '/etc/shadow', {}, rootCredential)
  server.makeFolder('/other')
  server.put('/other/file', '')
  server.moveToFilesystem('/other', 7n, 1n)
  server.put('/own', '')
  t.like(await give(world), { end: 'whole', seen: 3, changed: 2, elsewhere: 1 })
  t.is(facts(server, '/link'), '2000 777')
  t.is(facts(server, '/own'), '2000 664')
  t.is(facts(server, '/other'), '0 755')
  t.is(facts(server, '/other/file'), '0 644')
})

test('what vanishes meanwhile is nobody’s failure, and what the server refuses is counted and the first named', async (t) => {
  const world = new World()
  const { server } = world
  tree(server, { folders: 10, files: 10 })
  const [gone, refused] = [server.node('/d3/f3')?.handle, server.node('/d4/f4')?.handle]
  server.intercept('setattr', (proceed, [handle]) => {
    if (handle === refused) return Errno.EPERM
    if (handle === gone) server.unlink('/d3/f3')
    return proceed()
  }, 1000)
  server.intercept('readdir', (proceed, [handle]) => {
    if (handle !== server.node('/d5')?.handle) return proceed()
    return Errno.EACCES
  }, 1000)
  const answer = await give(world)
  t.like(answer, { end: 'whole', seen: 100, changed: 98, refused: 2 })
  t.true(['f4', 'd5'].includes(answer.firstRefusal?.name ?? ''))
  t.is(facts(server, '/d4/f4'), '0 644')
  t.is(facts(server, '/d9/f9'), '2000 664')
})

test('a server that refuses everything, or says yes and does nothing, is soon left in peace', async (t) => {
  for (const answer of ['refuses', 'ignores'] as const) {
    const world = new World()
    const { server } = world
    tree(server, { folders: 20, files: 100 })
    server.intercept('setattr', (_, [handle]) => {
      if (answer === 'refuses') return Errno.EPERM
      const node = [...Array(20).keys()].flatMap((n) => [
        server.node(`/d${n}`), ...server.names(`/d${n}`).map((name) => server.node(`/d${n}/${name}`))
      ])
        .find((each) => each?.handle === handle)
      return { before: undefined, after: node === undefined ? undefined : server.attributesOf(node) }
    }, 10_000)
    const { end, firstRefusal } = await give(world)
    t.is(end, 'refused')
    t.is(firstRefusal?.errno, Errno.EPERM)
    t.true(server.count('setattr') < 64 + groupWalkLimits.visits + 1, `${server.count('setattr')} calls`)
  }
})

test('a silent server, a root that is gone and the end of the session each end a walk by name', async (t) => {
  const silent = new World()
  tree(silent.server, { folders: 3, files: 3 })
  silent.server.intercept('setattr', () => new Silence(Errno.EIO), 1000)
  t.is((await give(silent)).end, 'silent')

  const gone = new World()
  gone.server.intercept('readdir', () => Errno.ESTALE)
  t.is((await give(gone)).end, 'gone')

  const drained = new World()
  tree(drained.server, { folders: 3, files: 300 })
  const held = drained.server.hold('setattr')
  const ending = give(drained)
  await held.arrived
  await drained.fs.drain(1000)
  const sent = drained.server.count('setattr')
  held.go()
  t.is((await ending).end, 'stopped')
  t.is(drained.server.count('setattr'), sent, 'nothing is sent after the drain')
})

test('listings without attributes, and cookies that the server forgets, cost calls and no object', async (t) => {
  const world = new World()
  const { server } = world
  server.capabilities = { ...server.capabilities, directoryAttributes: false }
  server.pageEntries = 7
  const paths = tree(server, { folders: 5, files: 20 })
  let pages = 0
  server.intercept('readdir', (proceed) => {
    if (++pages === 4) server.cookieVerifier = 'c2'
    return proceed()
  }, 1000)
  server.givesAttributes = false
  t.like(await give(world), { end: 'whole', changed: paths.length })
  t.true(paths.every((path) => server.node(path)?.gid === 2000))
})

test('what programs of this session know has its new group at once', async (t) => {
  const world = new World()
  const { server } = world
  server.put('/known', '')
  server.put('/unknown', '')
  const entry = await world.lookup('/known')
  if (isErrno(entry)) return t.fail(`lookup: ${entry}`)
  t.is(entry.attributes.gid, 0)
  world.notices.length = 0
  await give(world)
  const seen = await world.getattr(entry.nodeid)
  t.like(isErrno(seen) ? {} : seen.attributes, { gid: 2000, mode: 0o664 })
  t.deepEqual(world.notices, [{ kind: 'inode', nodeid: entry.nodeid, offset: 0, length: 0 }])
})

test('folders of other volumes are left alone, with all that is in them', async (t) => {
  const world = new World()
  const { server } = world
  for (const folder of ['/a', '/a/b', '/a/b/c', '/b', '/b/a']) {
    server.makeFolder(folder)
    server.put(`${folder}/file`, '')
  }
  const ways = [['a', 'b'], ['b', 'c']].map((way) => way.map(toFileName))
  t.like(await give(world, { ...wish, except: ways }), { end: 'whole', seen: 7, changed: 6, excepted: 1 })
  t.deepEqual(['/a', '/a/file', '/b', '/b/a', '/b/a/file'].map((path) => server.node(path)?.gid), Array(5).fill(2000))
  t.deepEqual(['/a/b', '/a/b/file', '/a/b/c', '/a/b/c/file'].map((path) => server.node(path)?.gid), Array(4).fill(0))
})
