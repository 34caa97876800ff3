// Fills an environment as the first word of the order's `extra` says: hang, fail, or with anything else, at once.
import { readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

const { key, folder, module, extra, cache } = JSON.parse(process.env.BERTH_INSTALL ?? '{}')
const say = (line: object): void => console.log(JSON.stringify(line))
const log = (message: string): void => say({ time: new Date().toISOString(), level: 'info', source: 'installer', message })

const tries = `${cache}/tries-${key}`
const before = (() => {
  try {
    return Number(readFileSync(tries, 'utf8'))
  } catch {
    return 0
  }
})()
writeFileSync(tries, String(before + 1))
log(`install number ${before + 1} of ${key}`)
log(`module has ${readdirSync(module).sort().join(' ')}`)
log(`uid ${process.getuid?.()}`)
say({ progress: { message: 'half way', current: 1, total: 2 } })
writeFileSync(`${folder}/half`, 'half')
if (extra[0] === 'hang') await delay(3_600_000)
if (extra[0] === 'slow') await delay(1_500)
if (extra[0] === 'environment') log(`environment ${JSON.stringify(process.env)}`)
if (extra[0] === 'read') log(`read ${readFileSync(process.env[extra[1]] ?? '', 'utf8')}`)
if (extra[0] === 'fail') {
  log('the last line of the installer')
  say({ failure: { message: 'no such package: berth-absent', lines: ['ERROR: no such package: berth-absent'] } })
  process.exit(1)
}
writeFileSync(`${folder}/installed`, key)
const marker = { key, pythonVersion: '3.13.0', installer: 'none', python: 'bin/python', createdAt: new Date().toISOString(), bytes: 42 }
writeFileSync(`${folder}/environment.json.part`, JSON.stringify(marker))
renameSync(`${folder}/environment.json.part`, `${folder}/environment.json`)
