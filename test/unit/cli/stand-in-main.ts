/** Answers like an orchestrator that has just been started; STAND_IN_FAILS makes it end instead. */
import http from 'node:http'

const [option, value] = process.argv.slice(2)
if (option === '--sweep') console.log(JSON.stringify({ removed: ['berth-left-over'] }))
else if (option === '--schema') console.log(JSON.stringify({ title: value }))
else if (process.env.STAND_IN_FAILS) {
  console.error('berth: berth.yaml:1:1 is wrong')
  process.exitCode = 1
} else serve()

function serve(): void {
  const port = Number(process.env.BERTH_LISTEN?.split(':')[1])
  let looks = 0
  const server = http.createServer((request, response) => {
    response.setHeader('content-type', 'application/json')
    if (request.url === '/healthz') response.end('{"status":"ok"}')
    else if (request.url === '/readyz' && looks++ === 0) {
      response.writeHead(503).end('{"ready":false,"reasons":["Docker does not answer yet"]}')
    } else if (request.url === '/readyz') response.end('{"ready":true,"reasons":[]}')
    else if (request.url === '/api/shutdown') response.end('{"stopped":["embeddings"]}', end)
    else response.writeHead(404).end()
  })
  const end = (): void => {
    server.close()
    server.closeAllConnections()
  }
  process.on('SIGTERM', () => {
    console.log('drained')
    process.exitCode = 3
    end()
  })
  server.listen(port, '127.0.0.1', () => console.log('listening'))
}
