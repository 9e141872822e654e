// Package deploy keeps what a new user meets first in step with the program:
// Dockerfile, docker-compose.yml and README.md. It holds nothing but tests, which
// need no Docker. They guarantee that the Dockerfile's command builds from what
// .dockerignore leaves; that the composed daemon's environment is a configuration,
// and that its health checks tell a healthy service from a sick one; that README's
// table of keys is the program's own; and that README's commands run, but for the
// few that a list in readme_test.go names with the reason.
package deploy
